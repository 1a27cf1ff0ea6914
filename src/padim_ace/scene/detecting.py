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
from padim_ace.scene.writing import Detections, Picture, score_raster, whole

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
            raise SceneError(
                "pfa: expected a model with held-out normals, found none; add some, or a threshold"
            )
        threshold = model.tail.threshold(pfa)
    with Scene(path, model.made["band"] if band is None else band) as opened:
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
            add_normals(model, opened, window)
            model.fit()
        features = _score(model, opened, files, threshold, window)
    content = {"type": "FeatureCollection", "padim_ace": about, "features": features}
    with whole(files[-1]) as temporary:  # last: it says that the scene is done
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return content


def _score(
    model: SceneModel, scene: Scene, files: list[Path], threshold: float, window: int
) -> list[dict[str, Any]]:
    found, picture, any_valid = Detections(threshold, model.patch), Picture(scene.size), False
    with score_raster(files[0], scene.size, scene.place) as raster:
        for tile, seen in windows(scene, model, window, "detect"):
            ends = [
                min(p.stop - p.start, n - at)
                for p, n, at in zip(tile.inner, scene.size, tile.corner, strict=True)
            ]
            part = tuple(slice(at, at + n) for at, n in zip(tile.corner, ends, strict=True))
            grey, valid, scored = (of[tile.inner] for of in seen)
            scores = np.full([n // model.patch for n in grey.shape], np.nan, np.float32)
            if scored.any():
                any_valid = True
                scores = model.score(torch.from_numpy(seen.grey), tile.inner).cpu().numpy()
                scores[pooled(scored, model.patch).numpy() == 0] = np.nan
                found.add(scores, tile.corner)
            pixels = scores.repeat(model.patch, 0).repeat(model.patch, 1)
            pixels[~scored] = np.nan
            raster.write(pixels[: ends[0], : ends[1]], 1, window=tuple((p.start, p.stop) for p in part))
            picture.add(grey, valid, tile.corner)
        if not any_valid:
            raise SceneError(f"{scene.path}: expected valid pixels, found none; is all of it no-data?")
    features = found.features(scene.size, scene.place)
    with whole(files[1]) as temporary:
        picture.save(temporary, features)
    return features
