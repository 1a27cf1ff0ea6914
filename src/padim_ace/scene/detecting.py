"""Detecting in a scene: scores, detections and a picture, written whole or not at all."""

from __future__ import annotations

import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from padim_ace.scene.fitting import add_normals
from padim_ace.scene.model import SceneModel
from padim_ace.scene.place import SceneError
from padim_ace.scene.reading import Scene
from padim_ace.scene.tiles import INNER, pooled, windows
from padim_ace.scene.writing import Detections, save_picture, score_raster, whole

logger = logging.getLogger(__name__)


def detect(
    model: SceneModel | Path | str,
    scene: Path | str,
    out: Path | str,
    *,
    pfa: float = 1e-5,
    threshold: float | None = None,
    band: str | int | None = None,
    fit_on_scene: bool = False,
    device: str = "cpu",
    window: int = INNER,
) -> dict[str, Any]:
    """Score a scene and write ``<name>.score.tif``, ``<name>.png`` and ``<name>.geojson`` to a folder.

    Args:
        model: fitted, or its file.
        scene: the scene's file.
        out: the folder.
        pfa: false alarms per patch of background, as the held-out normals of the fit had them.
        threshold: of the score, in place of ``pfa``.
        band: in place of the one that the model was fitted on.
        fit_on_scene: take the scene itself for the background, as RX does.
        device: of torch.
        window: side of a window's inner part, in pixels that the network sees.

    Returns:
        The content of the GeoJSON file; of the one that is there, if the scene is done.

    Raises:
        SceneError: for a file that can't be read or written, a scene without valid pixels, or a model that
            has no held-out normals where a false-alarm rate is asked for.
    """
    path, model = Path(scene), model if isinstance(model, SceneModel) else SceneModel.load(model, device)
    files = [Path(out) / f"{path.stem}.{kind}" for kind in ("score.tif", "png", "geojson")]
    if threshold is None:
        if model.tail is None:
            raise SceneError("pfa: expected a model with held-out normals, found none; give a threshold")
        threshold = model.tail.threshold(pfa)
    with Scene(path, model.made.get("band") if band is None else band) as opened:
        stat = path.stat()
        about = {
            "scene": [path.name, *opened.size, stat.st_size, stat.st_mtime_ns],
            "model": model.made.get("sha256"),
            "options": {"threshold": threshold, "band": opened.band, "fit_on_scene": fit_on_scene},
            "version": version("padim-ace"),
        }
        if all(file.is_file() for file in files):
            done = json.loads(files[-1].read_bytes())
            if done.get("padim_ace") == about:
                return done
        sample = opened.sample()
        if len(sample) and (complaint := model.scaling.complaint(sample)):
            logger.warning("%s: %s", path, complaint)
        if fit_on_scene:
            model = model.anew()
            add_normals(model, opened, window)
            model.fit()
        features = _score(model, opened, files[0], threshold, window)
        with whole(files[1]) as temporary:
            save_picture(temporary, opened, model.scaling, features)
    content = {"type": "FeatureCollection", "padim_ace": about, "features": features}
    with whole(files[-1]) as temporary:  # last: it says that the scene is done
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return content


def _score(
    model: SceneModel, scene: Scene, path: Path, threshold: float, window: int
) -> list[dict[str, Any]]:
    """The features of what is found, and the raster of scores at a path."""
    found, any_valid, side = Detections(threshold, model.patch), False, model.patch
    with score_raster(path, scene.size, scene.place) as raster:
        for tile, seen in windows(scene, model, window, "detect"):
            scored = seen.scored[tile.inner]
            scores = np.full([n // side for n in scored.shape], np.nan, np.float32)
            if scored.any():
                any_valid = True
                scores = model.score(torch.from_numpy(seen.grey), tile.inner).cpu().numpy()
                scores[pooled(scored, side).numpy() == 0] = np.nan
                found.add(scores, tile.corner)
            pixels = np.where(scored, scores.repeat(side, 0).repeat(side, 1), np.float32(np.nan))
            row, column = tile.corner
            pixels = pixels[: scene.size[0] - row, : scene.size[1] - column]
            ends = row + pixels.shape[0], column + pixels.shape[1]
            raster.write(pixels, 1, window=((row, ends[0]), (column, ends[1])))
        if not any_valid:
            raise SceneError(f"{scene.path}: expected valid pixels, found none; is all of it no-data?")
    return found.features(scene.size, scene.place)
