"""How well target removal by random background pixels can be told from background (deviation D9).

The normals of MSTAR and SSDD are copies of the anomalous images whose targets are filled with background
pixels drawn independently. A fill has the background's grey levels but not its spatial correlation: speckle
and clutter are correlated from pixel to pixel. Two measurements, neither of which looks for a target:

- :func:`window_correlation`: the correlation of neighbouring pixels in a small window. Does it tell windows
  of fill from windows of background in the same images?
- the least correlated window of each image. An image with a fill has one, whatever else it shows. Does this
  tell the normals from the anomalous images?
"""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import cv2
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from data_prep.images import Grey, Mask
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.metrics import Histogram, Truth, image_metrics

WINDOW = 15  #: Side of the window in which pixels are correlated, in pixels of the prepared image
FILL = ("dataset", "measure", "value")  #: The columns of ``fill.csv``


def filled_region(anomalous: Grey, normal: Grey) -> Mask:
    """Where the normal was filled: where the two differ, and gaps of up to 8 px in between.

    In dark images with few grey levels many pixels are drawn equal by chance.
    """
    differs = (anomalous != normal).astype(np.uint8)
    return cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)).astype(bool)


Pair = tuple[Grey, Grey]  #: An anomalous image and its copy with the targets filled


def pairs(dataset: PreparedDataset) -> Iterator[Pair]:
    """The anomalous images that have a filled copy among the normals (the same file name), and these."""
    paths = set(dataset.manifest["path"])
    for path in dataset.manifest.loc[dataset.anomalous, "path"]:
        copy = f"normal/{PurePosixPath(path).name}"
        if copy in paths:
            yield dataset.read_grey(dataset.root / path), dataset.read_grey(dataset.root / copy)


def window_correlation(image: Grey, window: int = WINDOW) -> Float[np.ndarray, "row column"]:
    """Correlation of neighbouring pixels in the window around each pixel, NaN where it leaves the image.

    The mean of the horizontal and the vertical one; 1 where the grey level is constant: no fill is. An image
    smaller than the window and one pixel more is a ValueError.
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


def _inside(region: Mask, window: int) -> Mask:
    """The pixels whose window, one pixel wider, lies in the region."""
    kernel = np.ones((window + 2, window + 2), np.uint8)
    eroded = cv2.erode(region.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return eroded.astype(bool)


def correlation_measures(found: Iterable[Pair]) -> dict[str, float]:
    """What the correlation of neighbouring pixels tells of a fill; empty if there are no pairs.

    ``images`` pairs; ``correlation_background`` and ``correlation_fill``, the means over windows that lie
    wholly in either, in the normals; ``window_auroc``, of the windows of fill against those of background, by
    falling correlation; ``image_auroc``, of the anomalous images against the normals, by the correlation of
    each image's least correlated window.
    """
    histogram = Histogram(bounded=True)
    totals = np.zeros((2, 2))  # of the correlations in background and in fill: sum and number
    least: list[float] = []
    for anomalous, normal in found:
        correlation, region = window_correlation(normal), filled_region(anomalous, normal)
        least += [np.nanmin(correlation), np.nanmin(window_correlation(anomalous))]
        filled, background = _inside(region, WINDOW), _inside(~region, WINDOW)
        for total, part in zip(totals, (background, filled), strict=True):
            total += correlation[part].sum(), part.sum()
        chosen = filled | background
        if chosen.any():
            values = torch.from_numpy((-correlation[chosen]).clip(-1, 1)).view(1, 1, -1)
            masks = torch.from_numpy(filled[chosen]).view(1, 1, -1)
            histogram.update(values, Truth(masks, torch.zeros(masks.shape), np.zeros(1, np.int64)))
    if not totals[:, 1].all():
        return {}
    background_mean, fill_mean = totals[:, 0] / totals[:, 1]
    labels = np.tile([False, True], len(least) // 2)
    return {
        "images": len(least) / 2,
        "correlation_background": background_mean,
        "correlation_fill": fill_mean,
        "window_auroc": histogram.metrics()["auroc"],
        "image_auroc": image_metrics(np.array(least), labels)["auroc"],
    }


def fill_frame(dataset: PreparedDataset, name: str) -> pd.DataFrame:
    """The rows of ``fill.csv`` of a dataset of this name."""
    rows = [(name, measure, value) for measure, value in correlation_measures(pairs(dataset)).items()]
    return pd.DataFrame(rows, columns=list(FILL))
