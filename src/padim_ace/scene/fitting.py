"""Fitting a model to normal scenes, and to what marks or shows targets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from padim_ace.detect import PatchMoments
from padim_ace.detect.pyramid import Embedding, flatten
from padim_ace.scene.model import Options, SceneModel
from padim_ace.scene.place import SceneError, rasterio, read_targets
from padim_ace.scene.reading import Scene, Window
from padim_ace.scene.scaling import Scaling
from padim_ace.scene.tail import Tail
from padim_ace.scene.tiles import INNER, Tile, pooled, windows
from padim_ace.scene.writing import whole

SUFFIXES = {".tif", ".tiff", ".vrt", ".png", ".jpg", ".jpeg", ".npy", ".ntf", ".nitf", ".img", ".jp2", ".bmp"}
"""The files that are taken of a folder."""
CELL, EVERY = 4, 5
"""Side of the squares of blocks that are held out together, in blocks; and of so many squares one is."""
HELD_OUT = 32768
"""Held-out blocks that are kept, of 1.6 kB for 16 patches each."""
MINED = 16
"""Patches of each anomalous image that a signature takes, the farthest from the background."""
SAMPLED = 4_000_000
"""Values that the scaling is found from, about."""


def files(paths: Sequence[Path | str]) -> list[Path]:
    """Files as they are, and the scenes of folders in the order of their names.

    Raises:
        SceneError: for a path that is not there, or a folder without scenes.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = (
            [p for p in sorted(path.glob("*")) if p.suffix.lower() in SUFFIXES] if path.is_dir() else [path]
        )
        if not inside or not path.exists():
            raise SceneError(f"{path}: expected a scene or a folder of scenes, found none")
        found += inside
    return found


def fit(
    normals: Sequence[Path | str],
    out: Path | str,
    anomalous: Sequence[Path | str] = (),
    *,
    scale: str = "linear",
    band: str | int | None = None,
    options: Options | None = None,
    device: str = "cpu",
    window: int = INNER,
) -> SceneModel:
    """Fit a model to normal scenes or chips, and write it.

    Args:
        normals: files and folders.
        out: the model's file.
        anomalous: images that show targets, folders of them, or GeoJSON files of polygons around the targets
            of a normal scene: that of the same name, or the only one. What these cover is not normal.
        scale: one of :data:`padim_ace.scene.scaling.SCALES`.
        band: number, from 1, or name, in each scene.
        options: backbone, features, seed and zoom.
        device: of torch.
        window: side of a window's inner part, in pixels that the network sees.

    Raises:
        SceneError: for a file that can't be read or written, or has no valid pixel.
        ValueError: for options out of range, or too few normals.
    """
    scenes, marks = files(normals), [Path(p) for p in anomalous if Path(p).suffix.lower().endswith("json")]
    images = files([p for p in anomalous if Path(p) not in marks])
    marked = {_scene_of(path, scenes): path for path in marks}
    samples = []
    for path in scenes[:: max(1, len(scenes) // 500)]:
        with Scene(path, band) as scene:
            samples.append(scene.sample())
    values = np.concatenate(samples)
    model = SceneModel(
        options or Options(), Scaling.of(values[:: max(1, len(values) // SAMPLED)], scale), device
    )
    held, targets = HeldOut(), PatchMoments()
    for number, path in enumerate(scenes):
        with Scene(path, band) as scene:
            add_normals(model, scene, window, marked.get(path), held, number)
    model.fit()
    for path in (*marked, *images):
        with Scene(path, band) as scene:
            patches = _target_patches(model, scene, window, None if path in images else marked[path])
            targets.add(normalize(patches, dim=-1)[:, None])
    if anomalous:
        model.fit_signature(targets)
    if held.embedding:
        scores = model.score_blocks(held.embedding).flatten().cpu().numpy()
        model.tail = Tail.of(scores)
    model.made = {
        "scenes": len(scenes),
        "normals": [path.name for path in scenes[:20]],
        "anomalous": [Path(path).name for path in anomalous][:20],
        "band": band,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "padim-ace": version("padim-ace"),
        "torch": str(torch.__version__),
    }
    with whole(Path(out)) as temporary:
        model.save(temporary)
    return SceneModel.load(out, device)


def _scene_of(marks: Path, scenes: list[Path]) -> Path:
    named = [scene for scene in scenes if scene.stem == marks.name.partition(".")[0]] or scenes
    if len(named) > 1:
        raise SceneError(f"{marks}: expected the name of one of {len(scenes)} normal scenes, found another")
    return named[0]


class HeldOut:
    """Held-out normal blocks, for thresholds: an even sample in bounded memory."""

    def __init__(self) -> None:
        self._generator, self._keys = torch.Generator().manual_seed(0), torch.empty(0)
        self.embedding: Embedding = []

    @staticmethod
    def chosen(grid: Sequence[int], corner: Sequence[int], scene: int) -> Bool[Tensor, " block"]:
        """Which blocks of a grid are held out, whichever window it is of; small images are whole.

        The ``corner`` is the first block's row and column in the scene.
        """
        row, column = (torch.arange(at, at + n) // CELL for at, n in zip(corner, grid, strict=True))
        return ((2 * row[:, None] + column + scene) % EVERY == EVERY - 1).flatten()

    def add(self, embedding: Embedding) -> None:
        """Keep the blocks of the smallest random keys."""
        keys = torch.cat([self._keys, torch.rand(embedding[0].shape[1], generator=self._generator)])
        kept = keys.argsort()[:HELD_OUT]
        both = zip(self.embedding or [e[:, :0] for e in embedding], embedding, strict=True)
        self.embedding = [torch.cat(pair, 1)[:, kept.to(pair[0].device)] for pair in both]
        self._keys = keys[kept]


def add_normals(
    model: SceneModel,
    scene: Scene,
    window: int,
    marks: Path | None = None,
    held: HeldOut | None = None,
    number: int = 0,
) -> None:
    """Add a scene's blocks that are valid and without a target to the background, or to what is held out.

    Raises:
        SceneError: for a scene without such blocks.
    """
    count, targets = 0, read_targets(marks, scene.place, scene.size) if marks else []
    for tile, seen in windows(scene, model, window, "fit"):
        usable = ((_valid(model, tile, seen) == 1) & (_covered(model, tile, targets) == 0)).all(0)
        if not usable.any():
            continue
        count += 1
        embedding = model.embed(torch.from_numpy(seen.grey), tile.inner)
        out = torch.zeros_like(usable)
        if held is not None:
            grid = [(p.stop - p.start) // model.block for p in tile.inner]
            out = held.chosen(grid, [at // model.block for at in tile.corner], number)
            held.add(_of(embedding, usable & out))
        model.update(_of(embedding, usable & ~out))
    if not count:
        side = model.block
        raise SceneError(
            f"{scene.path}: expected valid squares of {side} px, found none; is all of it no-data?"
        )


def _of(embedding: Embedding, blocks: Tensor) -> list[Tensor]:
    return [stage[:, blocks.to(stage.device)] for stage in embedding]


def _valid(model: SceneModel, tile: Tile, seen: Window) -> Float[Tensor, "place block"]:
    return model.to_blocks(pooled(seen.scored[tile.inner], model.patch))


def _covered(model: SceneModel, tile: Tile, targets: list[dict[str, Any]]) -> Float[Tensor, "place block"]:
    """The part of each patch of a window's inner part that targets cover."""
    shape = tuple(part.stop - part.start for part in tile.inner)
    covered = np.zeros(shape, np.uint8)
    if targets:
        place = rasterio().transform.Affine.translation(*tile.corner[::-1])
        covered = rasterio().features.rasterize(
            targets, shape, transform=place, all_touched=True, dtype="uint8"
        )
    return model.to_blocks(pooled(covered, model.patch))


def _target_patches(
    model: SceneModel, scene: Scene, window: int, marks: Path | None
) -> Float[Tensor, "patch feature"]:
    """The whitened patches that marks cover to a half or, without marks, the farthest from the background.

    Raises:
        SceneError: if there are none.
    """
    targets = read_targets(marks, scene.place, scene.size) if marks else []
    best = torch.empty(0, model.options.features, device=model.device)
    for tile, seen in windows(scene, model, window, "targets"):
        usable = _valid(model, tile, seen) == 1
        if marks:
            usable &= _covered(model, tile, targets) >= 0.5
        if usable.any():
            white = flatten(model.whiten(model.embed(torch.from_numpy(seen.grey), tile.inner)))
            best = torch.cat([best, white[usable.to(white.device)]])
        if not marks:
            best = best[best.square().sum(1).topk(min(MINED, len(best))).indices]
    if not len(best):
        raise SceneError(
            f"{marks or scene.path}: expected targets on valid pixels of {scene.path}, found none"
        )
    return best
