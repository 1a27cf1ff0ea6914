"""The scale on which anomalib shows scores."""

from __future__ import annotations

import torch
from anomalib.post_processing import PostProcessor
from torch import Tensor

MARGIN = 0.05  #: The part of [0, 1], at each end, for scores beyond those of the validation images


class AcePostProcessor(PostProcessor):
    r"""Brings scores from [-1, 1] to anomalib's [0, 1], in which 0.5 is the threshold.

    Straight lines lead from -1 to 0, from validation's smallest score to 0.05, from the threshold to 0.5,
    from validation's largest score to 0.95 and from 1 to 1; where scores are not bounded, twice the smallest
    and the largest stand for -1 and 1. Without a threshold it is 0; a smallest or largest score that is
    unknown, or not on its side of the threshold, is -1 or 1.

    anomalib's own post-processor clamps what lies beyond the scores of validation: scores tie, and AUROC
    changes. This one is strictly increasing, and so changes no ranking.

    The bounds have to be [0, 1]: anomalib's AUROC takes any batch with a score outside for logits, and ranks
    their sigmoids among the plain scores of other batches; its visualizer wraps negative values around.
    """

    @staticmethod
    def _normalize(
        preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor
    ) -> Tensor | None:
        if preds is None:
            return None
        middle = torch.where(torch.isnan(threshold), 0, threshold)
        low = torch.where(norm_min < middle, norm_min, -1)  # no comparison with NaN is true
        high = torch.where(norm_max > middle, norm_max, 1)

        def along(start: Tensor | float, end: Tensor | float) -> Tensor:  # 0 before start, 1 after end
            length = torch.as_tensor(end - start).clamp_min(1e-6)
            return ((preds - start) / length).clamp(0, 1)

        outer = along(torch.where(low < -1, 2 * low, -1), low) + along(
            high, torch.where(high > 1, 2 * high, 1)
        )
        return MARGIN * outer + (0.5 - MARGIN) * (along(low, middle) + along(middle, high))
