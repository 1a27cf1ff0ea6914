r"""Patch scores to pixel maps.

Bilinear upsampling and Gaussian smoothing are each linear and separable, so both together are
:math:`A_r S A_c^\top`, with one small matrix per axis.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SIGMA = 4.0  #: Standard deviation of PaDiM's smoothing, in pixels


def smoothing_matrix(patches: int, pixels: int, sigma: float = SIGMA) -> Float[Tensor, "pixel patch"]:
    """Bilinear interpolation of ``patches`` values to ``pixels``, then a Gaussian of ``sigma`` pixels.

    The Gaussian is cut at 4 σ and reflected at the border, as anomalib's ``GaussianBlur2d`` does.

    Raises:
        ValueError: if the kernel's half width is not less than ``pixels``: it could not be reflected.
    """
    radius = int(4 * sigma + 0.5)
    if radius >= pixels:
        raise ValueError(
            f"image size: expected more than {radius} pixels a side for sigma {sigma}, found {pixels}"
        )
    identity = torch.eye(patches, dtype=torch.float64).unsqueeze(0)
    upsampled = F.interpolate(identity, size=pixels, mode="linear", align_corners=False)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2)) if sigma else torch.ones(1, dtype=torch.float64)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    padded = F.pad(upsampled, (radius, radius), mode="reflect").transpose(0, 1)
    return F.conv1d(padded, kernel)[:, 0].T.float().contiguous()


def anomaly_map(
    scores: Float[Tensor, "*batch patch_row patch_column"],
    rows: Float[Tensor, "row patch_row"],
    columns: Float[Tensor, "column patch_column"],
) -> Float[Tensor, "*batch row column"]:
    """The pixel map of patch scores, with the matrices of :func:`smoothing_matrix` for both axes."""
    return torch.matmul(torch.matmul(rows, scores), columns.T)


def image_score(maps: Float[Tensor, "*batch row column"]) -> Float[Tensor, "*batch"]:
    """An image's score: the maximum of its map."""
    return maps.amax((-2, -1))
