"""Detection metrics that stream: a histogram of scores takes the place of the scores.

A histogram ties scores that share a bin. Tied pairs count half, so AUROC is off by at most half the chance
that a normal and an anomalous score share one, in practice by far less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BINS = 2**16
FPR_LIMIT = 0.3  #: AUPRO's part of the curve


@dataclass
class Truth:
    """The ground truth of a batch of images."""

    masks: Bool[Tensor, "image row column"]
    weights: Float[Tensor, "image row column"]  #: 1 / (size of its region) at each positive pixel, else 0
    regions_of: Int[np.ndarray, " image"]  #: How many regions each image has (8-connected)

    @classmethod
    def of(cls, masks: Bool[Tensor, "image row column"], device: torch.device | str = "cpu") -> "Truth":
        """From masks on the CPU."""
        weights = np.zeros(masks.shape, np.float32)
        regions = np.zeros(len(masks), np.int64)
        for i, mask in enumerate(masks.numpy()):
            if mask.any():
                count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
                sizes = stats[:, cv2.CC_STAT_AREA].astype(np.float32)
                sizes[0] = np.inf
                weights[i] = 1 / sizes[labels]
                regions[i] = count - 1
        return cls(masks.to(device), torch.from_numpy(weights).to(device), regions)

    def select(self, images: Int[np.ndarray, " chosen"]) -> "Truth":
        """The truth of some of the images."""
        index = torch.from_numpy(images).to(self.masks.device)
        return Truth(self.masks[index], self.weights[index], self.regions_of[images])

    @cached_property
    def positives(self) -> tuple[Int[Tensor, " positive"], Float[Tensor, " positive"]]:
        """Where the positive pixels are in the flattened masks, and their weights."""
        places = self.masks.flatten().nonzero()[:, 0]
        return places, self.weights.flatten()[places].double()


class Histogram:
    """Counts of negative and positive pixels by score.

    Bounded scores, in [-1, 1], have bins of equal width. Others may have any size: their bins are the leading
    bits of the floating-point number, 512 to each factor of two between 2⁻³² and 2³². Either way the bin of a
    score is known beforehand, so histograms of parts add up to that of the whole. Positives are counted a
    second time weighted by 1 / (size of their region), for AUPRO.

    Everything happens on the device of the scores; nothing is read back before :meth:`curve`.
    """

    def __init__(self, bounded: bool, device: torch.device | str = "cpu") -> None:
        self.bounded = bounded
        self.negative = torch.zeros(BINS, dtype=torch.int64, device=device)
        self.positive = torch.zeros(BINS, dtype=torch.int64, device=device)
        self.overlap = torch.zeros(BINS, dtype=torch.float64, device=device)
        self.regions = 0
        self._finite = torch.ones((), dtype=torch.bool, device=device)

    def update(self, scores: Float[Tensor, "image row column"], truth: Truth) -> None:
        """Add pixels: ``scores`` the higher the more anomalous, ``truth`` of the same images."""
        count([self], scores, [truth])

    def _add(self, key: Tensor, every: Int[Tensor, " bin"], truth: Truth) -> None:
        """Add pixels by their bins; ``every`` counts them all."""
        if _on_cpu(key):
            places, weights = truth.positives
            found = key.flatten()[places].long() + BINS // 2
            positive = torch.bincount(found, minlength=BINS)
            overlap = torch.bincount(found, weights=weights, minlength=BINS)
        else:  # without asking the device for a value, which would make the host wait
            index = key.flatten().long() + BINS // 2
            positive, overlap = torch.zeros_like(self.positive), torch.zeros_like(self.overlap)
            positive.index_add_(0, index, truth.masks.flatten().long())
            overlap.index_add_(0, index, truth.weights.flatten().double())
        self.positive += positive
        self.negative += every - positive
        self.overlap += overlap
        self.regions += int(truth.regions_of.sum())

    def thresholds(self) -> Float[np.ndarray, " bin"]:
        """The lowest score of each bin, from the highest bin down."""
        key = np.arange(-BINS // 2, BINS // 2)
        if self.bounded:
            return (np.where(key < 0, key - 1, key) / _STEPS)[::-1]
        size = (np.abs(key) + (key < 0) + _SMALLEST).astype(np.int32) << _DROPPED
        return (np.sign(key) * size.view(np.float32))[::-1]

    def curve(self) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, " bin"]]:
        """Cumulative counts of false and true positives, from the highest bin down.

        Raises:
            ValueError: if there are no positives or no negatives, or a score was not finite.
        """
        false, true = (
            part.cpu().numpy()[::-1].cumsum().astype(float) for part in (self.negative, self.positive)
        )
        _require_both("pixel", bool(self._finite), int(false[-1]), int(true[-1]))
        return false, true

    def metrics(self) -> dict[str, float]:
        """All metrics: ``auroc``, ``ap``, ``f1`` (the best) and, where there are regions, ``aupro``."""
        false, true = self.curve()
        result = curve_metrics(false, true)
        if self.regions:
            overlap = self.overlap.cpu().numpy()[::-1].cumsum() / self.regions
            result["aupro"] = aupro(false / false[-1], overlap)
        return result

    def best_threshold(self) -> float:
        """The score at and above which a pixel counts as anomalous for the best F1."""
        return float(self.thresholds()[best_f1(*self.curve())[1]])


def count(
    histograms: Sequence[Histogram], scores: Float[Tensor, "image row column"], truths: Sequence[Truth]
) -> None:
    """Add the same pixels to histograms of one kind, each by a truth of its own; all are counted once."""
    finite = torch.isfinite(scores.sum())  # many times as fast as asking each pixel
    key = _linear_key(scores) if histograms[0].bounded else _floating_key(scores)
    if _on_cpu(key):  # OpenCV counts 16-bit values seven times as fast as ``bincount``
        unsigned = key.numpy().view(np.uint16).reshape(1, -1)  # which is what it takes them for
        counts = cv2.calcHist([unsigned], [0], None, [BINS], [0, BINS]).ravel()
        every = torch.from_numpy(np.roll(counts, BINS // 2)).long()
    else:
        index = key.flatten().long() + BINS // 2
        every = torch.zeros_like(histograms[0].positive).index_add_(0, index, torch.ones_like(index))
    for histogram, truth in zip(histograms, truths, strict=True):
        histogram._finite &= finite
        histogram._add(key, every, truth)


def _on_cpu(key: Tensor) -> bool:
    return key.device.type == "cpu"


_STEPS = BINS / 2 - 0.01  #: Bins per unit of a bounded score
_DROPPED = 14  #: Bits of a float32 that its bin ignores; of 23 for the fraction, 9 are left
_SMALLEST = (127 - 32) << 9  #: The leading bits of 2⁻³²


def _linear_key(scores: Float[Tensor, "*pixel"]) -> Int[Tensor, "*pixel"]:
    """The bin of scores in [-1, 1], as int16 around zero."""
    return scores.clamp(-1, 1).mul_(_STEPS).to(torch.int16)  # smoothing overshoots by a rounding


def _floating_key(scores: Float[Tensor, "*pixel"]) -> Int[Tensor, "*pixel"]:
    """The bin of scores of any size, as int16 around zero."""
    size = (scores.abs().view(torch.int32) >> _DROPPED).sub_(_SMALLEST).clamp_(0, BINS // 2 - 1)
    return size.copysign(scores).to(torch.int16)


Curve = Float[np.ndarray, " threshold"]


def best_f1(false: Curve, true: Curve) -> tuple[float, int]:
    """The highest F1 over all thresholds, and that threshold's place in the curve."""
    f1 = 2 * true / (true + false + true[-1])
    best = int(f1.argmax())
    return float(f1[best]), best


def aupro(fpr: Curve, overlap: Curve, limit: float = FPR_LIMIT) -> float:
    """Area under mean per-region overlap by false positive rate up to ``limit``, divided by ``limit``."""
    fpr, overlap = np.r_[0, fpr], np.r_[0, overlap]
    inside = fpr < limit
    at_limit = np.interp(limit, fpr, overlap)
    return float(np.trapezoid(np.r_[overlap[inside], at_limit], np.r_[fpr[inside], limit]) / limit)


def curve_metrics(false: Curve, true: Curve) -> dict[str, float]:
    """``auroc``, ``ap`` and best ``f1`` of cumulative false and true positives of falling thresholds.

    In the area under the ROC curve ties count half; the average precision is ``Σ (R_i - R_{i-1}) P_i``.
    """
    area = np.trapezoid(np.r_[0, true], np.r_[0, false]) / (false[-1] * true[-1])
    ap = (np.diff(true, prepend=0) * (true / np.maximum(true + false, 1))).sum() / true[-1]
    return {"auroc": float(area), "ap": float(ap), "f1": best_f1(false, true)[0]}


def image_metrics(
    scores: Float[np.ndarray, " image"], labels: Bool[np.ndarray, " image"]
) -> dict[str, float]:
    """``auroc``, ``ap`` and best ``f1`` of image scores; a ValueError as of :meth:`Histogram.curve`."""
    _require_both("image", bool(np.isfinite(scores).all()), int((~labels).sum()), int(labels.sum()))
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    last = np.r_[np.nonzero(np.diff(scores))[0], len(scores) - 1]  # of each distinct score
    return curve_metrics(*(kind.cumsum()[last].astype(float) for kind in (~labels, labels)))


def _require_both(of: str, finite: bool, negatives: int, positives: int) -> None:
    if not finite:
        raise ValueError(f"{of} metrics: expected finite scores, found NaN or infinite ones; train again")
    if not negatives or not positives:
        found = f"found {negatives} and {positives}; give images of both kinds"
        raise ValueError(f"{of} metrics: expected normal and anomalous {of}s, {found}")
