"""What a model or a scene is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from padim_ace.detect import false_alarm_threshold
from padim_ace.scene.fitting import SUFFIXES
from padim_ace.scene.model import SceneModel
from padim_ace.scene.reading import Scene

RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The false-alarm rates that thresholds are told for."""
PERCENTILES = (1, 50, 99, 99.9)


def info(path: Path | str) -> dict[str, Any]:
    """What a model or a scene is, by name."""
    if Path(path).suffix.lower() not in SUFFIXES:
        return _of_model(SceneModel.load(path))
    with Scene(path) as scene:
        levels, place, middle = scene.sample(), scene.place, (scene.size[1] / 2, scene.size[0] / 2)
        shares = zip(PERCENTILES, np.percentile(levels, PERCENTILES) if len(levels) else (), strict=False)
        rows = {
            "scene": f"{scene.size[0]} rows, {scene.size[1]} columns, {scene.dtype}",
            "bands": ", ".join(scene.bands),
            "valid values": ", ".join(f"{value:.5g} ({share:g} %)" for share, value in shares) or "none",
            "coordinates": f"{place.crs}, {len(place.gcps)} ground control points" if place.crs else "none",
        }
        if place.crs:
            rows["middle"] = "longitude {:.6f}, latitude {:.6f}".format(*place.to_lonlat([middle])[0])
            rows["a pixel"] = f"{place.pixel_area(*middle):.6g} m²"
        return rows


def _of_model(model: SceneModel) -> dict[str, Any]:
    detector, scaling, tail, background = model.detector, model.scaling, model.tail, model.background
    assert background is not None
    rows = {
        "detector": f"{detector.statistic}, {detector.signature or 'no'} signature",
        **model.options._asdict(),
        "a score": f"for {model.patch} x {model.patch} px, from what lies within {model.reach} px",
        "scale": f"{scaling.scale}, black {scaling.black:.6g}, white {scaling.white:.6g}",
        "normal patches": f"{background.samples}, {tail.count if tail else 0} held out",
    }
    if tail is not None:
        rows |= {f"pfa {rate:g}": f"threshold {tail.threshold(rate):.6g}" for rate in RATES}
    if tail is not None and model.direction is None:  # the tolerant statistic has no law
        for rate in RATES:
            law = false_alarm_threshold("padim", rate, sum(model.features), background.samples)
            rows[f"pfa {rate:g}"] += f"; of Gaussian features {law:.6g}"
    return rows | model.made
