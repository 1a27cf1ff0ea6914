"""What stands before and behind the model in anomalib: a resize that exports, and a score scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing.utils.transform import get_exportable_transform
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, InterpolationMode, Resize, Transform


class AcePostProcessor(PostProcessor):
    r"""Brings ACE scores from [-1, 1] to anomalib's [0, 1], in which 0.5 is the threshold.

    :math:`\tfrac12 + \tfrac12 (s-t)/(1-t)` above the threshold :math:`t`, and
    :math:`\tfrac12 + \tfrac12 (s-t)/(1+t)` below it: -1 becomes 0, t 0.5 and 1 becomes 1.

    A score that is bounded needs no bounds from data. anomalib's own post-processor takes the validation
    scores' minimum and maximum for bounds, and clamps what falls outside: scores tie, and AUROC changes. This
    one is strictly increasing, and so changes no ranking. Without a threshold, t is 0.

    The bounds have to be [0, 1]: anomalib's AUROC takes any batch with a score outside for logits, and ranks
    their sigmoids among the plain scores of other batches; its visualizer wraps negative values around.
    """

    @staticmethod
    def _normalize(
        preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor
    ) -> Tensor | None:
        if preds is None:
            return None
        threshold = torch.where(torch.isnan(threshold), 0, threshold)
        room = torch.where(preds > threshold, 1 - threshold, 1 + threshold)
        return 0.5 + 0.5 * (preds - threshold) / room.clamp_min(torch.finfo(room.dtype).tiny)


class MatrixResize(nn.Module):
    """torchvision's antialiased bilinear resize as two matrix products, which every export format has."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, images: Float[Tensor, "*batch in_row in_column"]) -> Float[Tensor, "*batch row column"]:
        """Resize to ``size`` rows and columns."""
        rows, columns = (
            resize_matrix(inputs, outputs, images.device)
            for inputs, outputs in zip(images.shape[-2:], self.size, strict=True)
        )
        # flat, as OpenVINO otherwise fuses what follows (a channel's mean, say) into the product, and fails
        flat = images.flatten(0, -3)
        return (rows @ flat @ columns.T).unflatten(0, images.shape[:-2])


def resize_matrix(
    inputs: int | torch.SymInt, outputs: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "output input"]:
    r"""Antialiased bilinear interpolation of a row of ``inputs`` pixels to ``outputs``.

    The weights are a triangle as wide as two pixels of the coarser grid, centred on the output pixel, and add
    up to 1. Distances are whole multiples of ``1 / (2 inputs outputs)`` of the row, and so exact.
    """
    source = (2 * torch.arange(inputs, device=device) + 1) * outputs
    target: Tensor = (2 * torch.arange(outputs, device=device) + 1) * inputs  # type: ignore[assignment]
    distance = (source - target.unsqueeze(1)).abs()
    width: Any = 2 * torch.sym_max(inputs, outputs)
    weights = (1 - distance.float() / width).clamp_min(0)
    return weights / weights.sum(1, keepdim=True)


def exportable(transform: Transform) -> Any:
    """A copy that can be exported, and resizes as ``transform`` does, if to fixed rows and columns."""
    if isinstance(transform, Compose):
        return Compose([exportable(part) for part in transform.transforms])
    if (
        isinstance(transform, Resize)
        and transform.antialias
        and InterpolationMode(transform.interpolation) is InterpolationMode.BILINEAR
        and isinstance(transform.size, Sequence)
        and len(transform.size) == 2
    ):
        return MatrixResize(transform.size)
    return get_exportable_transform(transform)
