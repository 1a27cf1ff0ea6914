r"""RX (Reed and Yu 1990) on grey levels: how far a pixel's neighbourhood is from its background.

The vector of a pixel is its :data:`NEIGHBOURHOOD` × :data:`NEIGHBOURHOOD` neighbourhood, the distance
Mahalanobis's. Two backgrounds:

- local (:func:`local_rx`), the classic detector: the mean is that of a ring around the pixel, far enough
  from it that a target does not reach into it (``detect.sar_channels``); the
  covariance is that of the image's own residuals from these means. Reed and Yu demean locally and estimate
  the covariance over the image in the same way: the mean of clutter changes from place to place faster than
  its correlation does, and one covariance is one factorisation per image, where a covariance for each pixel
  would be 65,536.
- shared (:func:`shared_rx`): mean and covariance of the neighbourhoods of all training normals.

Beside it stands the two-parameter CA-CFAR (:func:`cfar`), which looks at the pixel alone, against the mean
and the standard deviation of the same ring.

The ring's mean is a linear map of the image, so the local residual of a neighbourhood is the neighbourhood of
a residual *image*: subtract, unfold, one Cholesky factor, one triangular solve.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from padim_ace.detect.sar_channels import ring_means

PIXEL = (1, 1)
NEIGHBOURHOOD = 5  #: Side of the neighbourhood, in pixels
QUANTISATION = (1 / 255) ** 2 / 12  #: Variance of rounding to 8 bits; it keeps covariances invertible

Images = Float[Tensor, "batch row column"]


@dataclass
class GreyBackground:
    """Mean of neighbourhoods, and the factor that whitens them: ``L⁻¹``, with ``Σ = L Lᵀ``."""

    mean: Float[Tensor, " neighbour"]
    whitening: Float[Tensor, "neighbour neighbour"]

    @classmethod
    def of(
        cls, mean: Float[Tensor, " neighbour"], covariance: Float[Tensor, "neighbour neighbour"]
    ) -> "GreyBackground":
        """Factored in float64, with the variance of the grey levels' rounding added, stored as float32."""
        identity = torch.eye(len(mean), dtype=torch.float64, device=mean.device)
        factor = torch.linalg.cholesky(covariance.double() + QUANTISATION * identity)
        return cls(mean.float(), torch.linalg.solve_triangular(factor, identity, upper=False).float())

    def distance(self, vectors: Float[Tensor, "neighbour pixel"]) -> Float[Tensor, " pixel"]:
        """``‖L⁻¹ (z - μ)‖``."""
        white = self.whitening @ vectors
        white.sub_((self.whitening @ self.mean).unsqueeze(1))
        return white.square_().sum(0).sqrt_()


def neighbourhoods(images: Images) -> Float[Tensor, "batch neighbour pixel"]:
    """The neighbourhood of every pixel, in reading order; the image is reflected at its border."""
    batch, rows, columns = images.shape
    padded = F.pad(images.unsqueeze(1), (NEIGHBOURHOOD // 2,) * 4, mode="reflect")[:, 0]
    return padded.unfold(1, rows, 1).unfold(2, columns, 1).reshape(batch, NEIGHBOURHOOD**2, rows * columns)


def products(
    vectors: Float[Tensor, "batch neighbour pixel"],
) -> tuple[Float[Tensor, "batch neighbour"], Float[Tensor, "batch neighbour neighbour"]]:
    """Each image's mean vector and mean of ``z zᵀ``: from these, the background of any set of images."""
    return vectors.mean(2), torch.matmul(vectors, vectors.mT) / vectors.shape[2]


def shared_background(
    means: Float[Tensor, "image neighbour"], second: Float[Tensor, "image neighbour neighbour"]
) -> GreyBackground:
    """The background of images of equal size from their :func:`products`."""
    mean = means.double().mean(0)
    return GreyBackground.of(mean, second.double().mean(0) - torch.outer(mean, mean))


def local_rx(images: Images) -> Images:
    """Distance of each neighbourhood from its ring's mean, under the covariance of the image's residuals."""
    vectors = neighbourhoods(images - ring_means(images, PIXEL))
    zero = torch.zeros(NEIGHBOURHOOD**2, device=images.device)
    backgrounds = [GreyBackground.of(zero, second) for second in products(vectors)[1]]
    return torch.stack([b.distance(z) for b, z in zip(backgrounds, vectors, strict=True)]).view_as(images)


def cfar(images: Images) -> Images:
    """How far a pixel is above its ring's mean, in the ring's standard deviations."""
    levels = images.double()  # a variance is a small difference of squares
    mean = ring_means(levels, PIXEL)
    variance = (ring_means(levels.square(), PIXEL) - mean.square()).clamp_min(0)
    return ((levels - mean) / (variance + QUANTISATION).sqrt()).to(images)


def shared_rx(
    vectors: Iterable[Float[Tensor, "neighbour pixel"]], background: GreyBackground, size: tuple[int, int]
) -> Images:
    """Distance of each neighbourhood of each image from a background that all places share."""
    # image by image: one image's vectors stay in the processor's cache, a batch's do not
    return torch.stack([background.distance(z) for z in vectors]).unflatten(-1, size)
