"""Fitting a model to normal scenes, and to what marks or shows targets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from padim_ace.detect.pyramid import Embedding, energy, flatten, side_by_side
from padim_ace.detect.signature import CANDIDATES, Bags, candidates
from padim_ace.scene.model import Options, SceneModel
from padim_ace.scene.place import SceneError, rasterio, read_targets
from padim_ace.scene.reading import Scene, Window
from padim_ace.scene.scaling import Scaling
from padim_ace.scene.tail import Tail
from padim_ace.scene.tiles import INNER, Tile, pooled, windows
from padim_ace.scene.writing import whole

SUFFIXES = (".tif", ".tiff", ".vrt", ".png", ".jpg", ".jpeg", ".npy", ".ntf", ".nitf", ".img", ".jp2", ".bmp")
"""The files that are taken of a folder."""
CELL, EVERY = 16, 3
"""Side of the squares of blocks that are kept together, in blocks: what lies nearer to fitted blocks than the
network sees scores too low. Of so many squares one is held out for
thresholds, and one that takes part in the fit is kept for signatures to be held against; or fewer."""
KEPT = 32768
"""Blocks, about, that are kept at most for each of both: 1.7 kB for 16 patches."""
CHIP = 256
"""Blocks of clutter that count as one image."""
MARKED = 1024
"""Patches under marks that a signature is made of, at most."""
SAMPLED = 4_000_000
"""Values that the scaling is found from, about."""


def files(paths: Sequence[Path | str]) -> list[Path]:
    """Files as they are, and the scenes of folders in the order of their names.

    Raises:
        SceneError: for a path that is not there, or a folder without scenes.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = [p for p in sorted(path.glob("*")) if p.suffix.lower() in SUFFIXES]
        if not path.exists() or (path.is_dir() and not inside):
            raise SceneError(f"{path}: expected a scene or a folder of scenes, found none")
        found += inside if path.is_dir() else [path]
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
    values, blocks = [np.empty(0, np.float32)], 0
    for number, path in enumerate(scenes):
        with Scene(path, band) as scene:
            blocks += scene.size[0] * scene.size[1] // 256
            if number % max(1, len(scenes) // 500) == 0:
                values.append(scene.sample())
    sample = np.concatenate(values)
    scaling = Scaling.of(sample[:: max(1, len(sample) // SAMPLED)], scale)
    model = SceneModel(options or Options(), scaling, device)
    kept: list[Kept] = []
    every = max(EVERY, blocks * model.options.zoom**2 // KEPT)
    for number, path in enumerate(scenes):
        with Scene(path, band) as scene:
            kept += add_normals(model, scene, window, marked.get(path), every, number)
    model.fit()
    held, clutter = (side_by_side(parts) if (parts := [k[i] for k in kept]) else [] for i in (0, 1))
    targets = []
    for path in (*marked, *images):
        with Scene(path, band) as scene:
            targets.append(_targets(model, scene, window, None if path in images else marked[path]))
    if anomalous:
        starts = range(0, _count(clutter), CHIP)
        chips = [model.whiten([stage[:, at : at + CHIP] for stage in clutter]) for at in starts]
        bags = torch.cat([_candidates(chip) for chip in chips]) if chips else torch.cat(targets)[:0]
        model.fit_signature(torch.cat(targets), bags)
    if _count(held):
        model.tail = Tail.of(model.score_blocks(held).flatten().cpu().numpy())
    model.made = {
        "scenes": len(scenes),
        "normals": [path.name for path in scenes[:20]],
        "anomalous": [Path(path).name for path in anomalous][:20],
        "band": band,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": f"padim-ace {version('padim-ace')}, torch {torch.__version__}",
    }
    with whole(Path(out)) as temporary:
        model.save(temporary)
    return SceneModel.load(out, device)


def _scene_of(marks: Path, scenes: list[Path]) -> Path:
    named = [scene for scene in scenes if scene.stem == marks.name.partition(".")[0]] or scenes
    if len(named) > 1:
        raise SceneError(f"{marks}: expected the name of one of {len(scenes)} normal scenes, found another")
    return named[0]


Kept = tuple[list[Tensor], list[Tensor]]
"""Blocks of a window that are held out, and blocks of clutter."""


def add_normals(
    model: SceneModel, scene: Scene, window: int, marks: Path | None = None, every: int = 0, number: int = 0
) -> list[Kept]:
    """Add a scene's blocks that are valid and without a target to the background; return those that are kept.

    One of ``every`` squares is held out, none for 0; small scenes are, or not, by their ``number``.

    Raises:
        SceneError: for a scene without such blocks.
    """
    count, kept, targets = 0, [], read_targets(marks, scene.place, scene.size) if marks else []
    for tile, seen in windows(scene, model, window, "fit"):
        usable = ((_valid(model, tile, seen) == 1) & (_covered(model, tile, targets) == 0)).all(0)
        if usable.any():
            count += 1
            embedding = model.embed(torch.from_numpy(seen.grey), tile.inner)
            part = _part(model, tile, every, number)
            model.update(_of(embedding, usable & (part != 0)))
            if every:
                kept.append((_of(embedding, usable & (part == 0)), _of(embedding, usable & (part == 1))))
    if not count:
        raise SceneError(
            f"{scene.path}: expected valid squares of {model.block} px, found none; all no-data?"
        )
    return kept


def _part(model: SceneModel, tile: Tile, every: int, number: int) -> Int[Tensor, " block"]:
    """From 0 to ``every`` - 1, for the square of each block, whichever windows a scene is cut into."""
    starts = [at // model.block for at in tile.corner]
    ends = [at + (part.stop - part.start) // model.block for at, part in zip(starts, tile.inner, strict=True)]
    row, column = (torch.arange(*span) // CELL for span in zip(starts, ends, strict=True))
    square = (2 * row[:, None] + column + number).flatten() + 1
    return square % every if every else square


def _of(embedding: Embedding, blocks: Tensor) -> list[Tensor]:
    return [stage[:, blocks.to(stage.device)] for stage in embedding]


def _count(embedding: Embedding) -> int:
    return embedding[0].shape[1] if embedding else 0


def _candidates(white: Embedding) -> Bags:
    """The patches of some blocks that are farthest from the background, as one bag."""
    image = [stage.transpose(0, 1).reshape(-1, 1, stage.shape[-1]) for stage in white]
    return candidates(image, energy(image))


def _valid(model: SceneModel, tile: Tile, seen: Window) -> Float[Tensor, "place block"]:
    return model.to_blocks(pooled(seen.scored[tile.inner], model.patch))


def _covered(model: SceneModel, tile: Tile, targets: list[dict[str, Any]]) -> Float[Tensor, "place block"]:
    """The part of each patch of a window's inner part that targets cover."""
    covered = np.zeros([part.stop - part.start for part in tile.inner], np.uint8)
    if targets:
        place = rasterio().transform.Affine.translation(*tile.corner[::-1])
        rasterio().features.rasterize(targets, out=covered, transform=place, all_touched=True)
    return model.to_blocks(pooled(covered, model.patch))


def _targets(model: SceneModel, scene: Scene, window: int, marks: Path | None) -> Bags:
    """Whitened patches: those that marks cover to a half or, without, the farthest from the background."""
    targets = read_targets(marks, scene.place, scene.size) if marks else []
    found = []
    for tile, seen in windows(scene, model, window, "targets"):
        valid = _valid(model, tile, seen) == 1
        covered = valid & (_covered(model, tile, targets) >= 0.5)
        if not (covered if marks else valid.all(0)).any():
            continue
        white = model.whiten(model.embed(torch.from_numpy(seen.grey), tile.inner))
        if marks:
            found.append(flatten(white)[covered.to(white[0].device)])
        else:
            found.append(_candidates(_of(white, valid.all(0)))[0])
    if not found:
        raise SceneError(f"{scene.path}: expected targets on valid pixels, found none ({marks or 'no data'})")
    patches = torch.cat(found)
    if marks:
        patches = patches[:: -(-len(patches) // MARKED)]
        return patches[:, None].expand(-1, CANDIDATES, -1)
    return patches[patches.square().sum(1).topk(CANDIDATES).indices][None]
