"""What a model or a scene is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from padim_ace.detect import false_alarm_threshold
from padim_ace.scene.fitting import SUFFIXES
from padim_ace.scene.model import SceneModel
from padim_ace.scene.place import SceneError
from padim_ace.scene.reading import Scene

RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The false-alarm rates that thresholds are told for."""
PERCENTILES = (1, 50, 99, 99.9)


def info(path: Path | str, band: str | int | None = None) -> dict[str, Any]:
    """What a model or a scene is, by name.

    Raises:
        SceneError: for a file that is neither.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        return _of_model(SceneModel.load(path))
    with Scene(path, band) as scene:
        values, place = scene.sample(), scene.place
        if not len(values):
            raise SceneError(f"{path}: expected valid pixels, found none; is all of it no-data?")
        shares = zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
        rows = {
            "scene": f"{scene.size[0]} rows, {scene.size[1]} columns, {scene.dtype}",
            "bands": ", ".join(scene.bands),
            "values": ", ".join(f"{value:.5g} ({share:g} %)" for share, value in shares),
            "coordinates": f"{place.crs}, {len(place.gcps)} ground control points" if place.crs else "none",
        }
        if place.crs:
            ((longitude, latitude),) = place.to_lonlat([(0, 0)])
            rows["upper left"] = f"longitude {longitude:.6f}, latitude {latitude:.6f}"
            rows["a pixel"] = f"{place.pixel_area(scene.size[1] / 2, scene.size[0] / 2):.6g} m²"
    return rows


def _of_model(model: SceneModel) -> dict[str, Any]:
    statistic, scaling, tail, background = model.statistic, model.scaling, model.tail, model.background
    assert background is not None
    rows = {
        "detector": f"{statistic.statistic}, {statistic.signature or 'no'} signature",
        **model.options._asdict(),
        "a score": f"for {model.patch} x {model.patch} px, from what lies within {model.reach} px",
        "scale": f"{scaling.scale}, black {scaling.black:.6g}, white {scaling.white:.6g}",
        "normal patches": f"{background.samples}, {tail.count if tail else 0} held out",
    }
    if tail is not None:
        size = model.options.features, background.samples
        dimensions = statistic.dimensions if statistic.signature == "subspace" else None
        for rate in RATES:
            law = false_alarm_threshold(statistic.statistic, rate, *size, dimensions, pooled=True)
            rows[f"pfa {rate:g}"] = f"threshold {tail.threshold(rate):.6g}; of Gaussian features {law:.6g}"
    return rows | model.made
