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
from padim_ace.detect.pyramid import flatten
from padim_ace.scene.model import Options, SceneModel
from padim_ace.scene.place import SceneError, rasterio, read_targets
from padim_ace.scene.reading import Scene, Window
from padim_ace.scene.scaling import Scaling
from padim_ace.scene.tail import Tail
from padim_ace.scene.tiles import INNER, Tile, pooled, windows
from padim_ace.scene.writing import whole

SUFFIXES = (".tif", ".tiff", ".vrt", ".png", ".jpg", ".jpeg", ".npy", ".ntf", ".nitf", ".img", ".jp2", ".bmp")
"""The files that are taken of a folder."""
CELL, EVERY = 4, 5
"""Side of the squares of blocks that are held out together, in blocks; of so many squares one is, at most."""
HELD_OUT = 32768
"""Held-out blocks, about, that are kept at most: 1.6 kB for 16 patches each."""
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
    model, targets = SceneModel(options or Options(), scaling, device), PatchMoments()
    held: list[list[Tensor]] = []
    every = max(EVERY, blocks * model.options.zoom**2 // HELD_OUT)
    for number, path in enumerate(scenes):
        with Scene(path, band) as scene:
            held += add_normals(model, scene, window, marked.get(path), every, number)
    model.fit()
    for path in (*marked, *images):
        with Scene(path, band) as scene:
            patches = _target_patches(model, scene, window, None if path in images else marked[path])
            targets.add(normalize(patches, dim=-1)[:, None])
    if anomalous:
        model.fit_signature(targets)
    if held:
        model.tail = Tail.of(torch.cat([model.score_blocks(part).flatten() for part in held]).cpu().numpy())
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


def add_normals(
    model: SceneModel, scene: Scene, window: int, marks: Path | None = None, every: int = 0, number: int = 0
) -> list[list[Tensor]]:
    """Add a scene's blocks that are valid and without a target to the background; return those held out.

    One of ``every`` squares is held out, none for 0; small scenes are, or not, by their ``number``.

    Raises:
        SceneError: for a scene without such blocks.
    """
    count, held, targets = 0, [], read_targets(marks, scene.place, scene.size) if marks else []
    for tile, seen in windows(scene, model, window, "fit"):
        usable = ((_valid(model, tile, seen) == 1) & (_covered(model, tile, targets) == 0)).all(0)
        if usable.any():
            count += 1
            embedding = model.embed(torch.from_numpy(seen.grey), tile.inner)
            out = usable & _held_out(model, tile, every, number)
            model.update([stage[:, (usable & ~out).to(stage.device)] for stage in embedding])
            held += [[stage[:, out.to(stage.device)] for stage in embedding]] if out.any() else []
    if not count:
        raise SceneError(
            f"{scene.path}: expected valid squares of {model.block} px, found none; is it no-data?"
        )
    return held


def _held_out(model: SceneModel, tile: Tile, every: int, number: int) -> Bool[Tensor, " block"]:
    """Which blocks of a window are held out, whichever windows a scene is cut into."""
    starts = [at // model.block for at in tile.corner]
    ends = [at + (part.stop - part.start) // model.block for at, part in zip(starts, tile.inner, strict=True)]
    row, column = (torch.arange(*span) // CELL for span in zip(starts, ends, strict=True))
    cell = (2 * row[:, None] + column + number).flatten()
    return cell % every == every - 1 if every else torch.zeros_like(cell, dtype=torch.bool)


def _valid(model: SceneModel, tile: Tile, seen: Window) -> Float[Tensor, "place block"]:
    return model.to_blocks(pooled(seen.scored[tile.inner], model.patch))


def _covered(model: SceneModel, tile: Tile, targets: list[dict[str, Any]]) -> Float[Tensor, "place block"]:
    """The part of each patch of a window's inner part that targets cover."""
    covered = np.zeros([part.stop - part.start for part in tile.inner], np.uint8)
    if targets:
        place = rasterio().transform.Affine.translation(*tile.corner[::-1])
        rasterio().features.rasterize(targets, out=covered, transform=place, all_touched=True)
    return model.to_blocks(pooled(covered, model.patch))


def _target_patches(
    model: SceneModel, scene: Scene, window: int, marks: Path | None
) -> Float[Tensor, "patch feature"]:
    """The whitened patches that marks cover to a half or, without marks, the farthest from the background."""
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
        raise SceneError(f"{scene.path}: expected targets on valid pixels, found none ({marks or 'no data'})")
    return best
