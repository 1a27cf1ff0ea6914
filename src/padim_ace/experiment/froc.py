"""Detection in whole scenes: the FROC curve.

A detection is a local maximum of the score, so that one pass serves every threshold and every detector alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from scipy import ndimage

APART = 17
"""Side of the square in which a detection has the highest score, in pixels."""
MARGIN = 6
"""How far beyond a target's box a score still belongs to it, in pixels."""
Boxes = Sequence[tuple[int, int, int, int]]
"""Left, top, right, bottom, in pixels."""


def froc(
    scenes: Iterable[tuple[Float[np.ndarray, "row column"], Boxes]],
) -> tuple[Float[np.ndarray, " rate"], Float[np.ndarray, " rate"]]:
    """False alarms per megapixel that is scored, rising, and the part of the targets found at each.

    Args:
        scenes: the score of each, NaN where there is none, and the boxes of its targets. A target is found
            where the score in its box is above the threshold; all detections outside of boxes are false.
    """
    targets, false, pixels = [], [], 0
    for score, boxes in scenes:
        pixels += int(np.isfinite(score).sum())
        score = np.where(np.isfinite(score), score, -np.inf)
        clutter = score.copy()
        for left, top, right, bottom in boxes:
            part = slice(max(top - MARGIN, 0), bottom + MARGIN), slice(max(left - MARGIN, 0), right + MARGIN)
            targets.append(score[part].max())
            clutter[part] = -np.inf
        peaks = (ndimage.maximum_filter(score, APART) == clutter) & np.isfinite(clutter)
        labels, count = ndimage.label(peaks, np.ones((3, 3)))  # a plateau is one detection
        false += list(ndimage.maximum(clutter, labels, np.arange(1, count + 1)))
    levels = np.sort(np.array(false))[::-1]
    found = (np.array(targets)[:, None] > levels).mean(0)
    return np.arange(len(levels)) / (pixels / 1e6), found
