"""Where a detector may depart from ACE as it is defined: the seam at which the paper's own code is put in."""

from __future__ import annotations

from collections.abc import Hashable

from jaxtyping import Int
from torch import Tensor

from padim_ace.detect.background import Background
from padim_ace.detect.inner_products import InnerProduct, Shape, Signatures, inner_product
from padim_ace.detect.pyramid import Embedding


class Convention:
    """ACE as it is defined, with the signature measured from the background's mean; to be subclassed."""

    @property
    def normalised(self) -> bool:
        """Whether signature images are normalised as all others are."""
        return True

    def inner_product(self, background: Background, covariance: str, shape: Shape) -> InnerProduct:
        """The inner product of a covariance structure."""
        return inner_product(background, covariance, shape)

    def shares(self, covariance: str) -> Hashable:
        """Equal for conventions whose inner products of a covariance structure are the same."""
        return frozenset()

    def signature(
        self, mean: Embedding, background: Background, raster: Int[Tensor, " place"], seed: int
    ) -> Signatures:
        """What is projected on, made of the mean embedding of the signature images.

        Args:
            mean: an embedding of one image.
            background: of the normal images.
            raster: where the places of an image, row by row, are in block order.
            seed: of the run.
        """
        return background.centre(mean)


CENTRED = {"centred": Convention()}
"""The one convention of detectors that are as they should be."""
