"""How well target removal by random background pixels can be told from background (deviation D9).

The normals of MSTAR and SSDD are copies of the anomalous images whose targets are filled with background
pixels drawn independently. A fill has the background's grey levels but not its spatial correlation: speckle
and clutter are correlated from pixel to pixel. Two measurements, neither of which looks for a target:

- :func:`window_correlation`: the correlation of neighbouring pixels in a small window. Does it tell windows
  of fill from windows of background in the same images?
- the least correlated window of each image. An image with a fill has one, whatever else it shows. Does this
  tell the normals from the anomalous images?
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.metrics import Histogram, Truth, image_metrics

WINDOW = 15
"""Side of the window in which pixels are correlated, in pixels of the prepared image."""
FILL = ("dataset", "measure", "value")
"""The columns of ``fill.csv``."""


@dataclass
class Pair:
    """An anomalous image and its copy with the targets filled."""

    name: str
    anomalous: UInt8[np.ndarray, "row column"]
    normal: UInt8[np.ndarray, "row column"]
    filled: Bool[np.ndarray, "row column"]
    """Where the fill is."""


def filled_region(
    anomalous: UInt8[np.ndarray, "row column"], normal: UInt8[np.ndarray, "row column"]
) -> Bool[np.ndarray, "row column"]:
    """Where the normal was filled: where the two differ, and gaps of up to 8 px in between.

    In dark images with few grey levels many pixels are drawn equal by chance.
    """
    differs = (anomalous != normal).astype(np.uint8)
    return cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)).astype(bool)


def pairs(dataset: PreparedDataset) -> Iterator[Pair]:
    """The anomalous images that have a filled copy among the normals (the same file name)."""
    of_name = {
        label: {PurePosixPath(path).name: path for path in rows["path"]}
        for label, rows in dataset.manifest.groupby("label")
    }
    for name in sorted(set(of_name.get("normal", {})) & set(of_name.get("anomalous", {}))):
        anomalous = dataset.read_grey(dataset.root / of_name["anomalous"][name])
        normal = dataset.read_grey(dataset.root / of_name["normal"][name])
        if anomalous.shape == normal.shape:
            yield Pair(name, anomalous, normal, filled_region(anomalous, normal))


def window_correlation(
    image: UInt8[np.ndarray, "row column"], window: int = WINDOW
) -> Float[np.ndarray, "row column"]:
    """Correlation of neighbouring pixels in the window around each pixel, NaN where it leaves the image.

    The mean of the horizontal and the vertical one; 1 where the grey level is constant: no fill is.

    Raises:
        ValueError: if the image is smaller than the window and one pixel more.
    """
    if min(image.shape) <= window:
        raise ValueError(
            f"window: expected a side of fewer pixels than the image's {image.shape}, found {window}"
        )
    grey = image.astype(np.float64)
    half = window // 2
    top_left, right, below = np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, :-1]

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, (window, window))[half:-half, half:-half]

    level = mean(grey)
    variance = (mean(grey * grey) - level**2).clip(0)
    total = np.zeros(variance[top_left].shape)
    for beside in (right, below):
        covariance = mean(grey[top_left] * grey[beside]) - level[top_left] * level[beside]
        spread = np.sqrt(variance[top_left] * variance[beside])
        constant = spread < 1e-6
        total += np.where(constant, 1, covariance / np.where(constant, 1, spread))
    result = np.full(grey.shape, np.nan)
    result[half : -half - 1, half : -half - 1] = total / 2
    return result


def _inside(region: Bool[np.ndarray, "row column"], window: int) -> Bool[np.ndarray, "row column"]:
    """The pixels whose window, one pixel wider, lies in the region."""
    kernel = np.ones((window + 2, window + 2), np.uint8)
    eroded = cv2.erode(region.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return eroded.astype(bool)


def correlation_measures(found: Iterator[Pair], window: int = WINDOW) -> dict[str, float]:
    """What the correlation of neighbouring pixels tells of a fill; empty if there are no pairs.

    ``images`` pairs; ``correlation_background`` and ``correlation_fill``, the means over windows that lie
    wholly in either, in the normals; ``window_auroc``, of the windows of fill against those of background, by
    falling correlation; ``image_auroc``, of the anomalous images against the normals, by the correlation of
    each image's least correlated window.
    """
    histogram = Histogram(bounded=True)
    totals = {True: [0.0, 0], False: [0.0, 0]}
    least: list[float] = []
    labels: list[bool] = []
    for pair in found:
        correlation = window_correlation(pair.normal, window)
        least += [float(np.nanmin(correlation)), float(np.nanmin(window_correlation(pair.anomalous, window)))]
        labels += [False, True]
        filled, background = _inside(pair.filled, window), _inside(~pair.filled, window)
        chosen = filled | background
        if not chosen.any():
            continue
        for is_fill, region in ((True, filled), (False, background)):
            totals[is_fill][0] += float(correlation[region].sum())
            totals[is_fill][1] += int(region.sum())
        values = torch.from_numpy((-correlation[chosen]).clip(-1, 1)).view(1, 1, -1)
        masks = torch.from_numpy(filled[chosen]).view(1, 1, -1)
        histogram.update(values, Truth(masks, torch.zeros(masks.shape), np.zeros(1, np.int64)))
    if not totals[True][1] or not totals[False][1]:
        return {}
    return {
        "images": len(labels) / 2,
        "correlation_background": totals[False][0] / totals[False][1],
        "correlation_fill": totals[True][0] / totals[True][1],
        "window_auroc": histogram.metrics()["auroc"],
        "image_auroc": image_metrics(np.array(least), np.array(labels))["auroc"],
    }
