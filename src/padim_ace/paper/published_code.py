"""What the paper's published code computes, deviation by deviation, so that each can be switched on and off.

The code is Advanced-Vision-and-Learning-Lab/PaDiM-ACE at 7dff7f4. A *convention* names a set of deviations:
``centred`` has none, ``equation`` is Eq. (1) to the letter (D5), ``published`` has all; ``centred+D3`` adds
one and ``published-D3`` takes one away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from padim_ace.detect import inner_products, pyramid
from padim_ace.detect.background import Background
from padim_ace.detect.inner_products import InnerProduct, Prepared, Projection, Shape, Signatures, Weighted
from padim_ace.detect.pyramid import BlockRows, Embedding, Energy, project, quadratic_form
from padim_ace.experiment.scorer import Convention

DEVIATIONS = {
    "D1": "whitens with Σ^(+1/2): the precision is passed where the covariance belongs",
    "D2": "the diagonal is that of the precision, not of the covariance",
    "D3": "the mean signature is reshaped without permuting, mixing channels and places",
    "D4": "signature images are not normalised as the others are",
    "D5": "the background's mean is not subtracted from the signature",
    "D6": "the isotropic variance is always the log-determinant",
}
"""What the published code does otherwise than the text, and can be switched alone."""


@dataclass(frozen=True)
class Deviating(Convention):
    """A convention with some of the deviations D1 to D6."""

    deviations: frozenset[str] = frozenset()

    @property
    def normalised(self) -> bool:
        """Not with D4."""
        return "D4" not in self.deviations

    def inner_product(self, background: Background, covariance: str, shape: Shape) -> InnerProduct:
        """With D1 and D2; D1 and D6 change an isotropic variance only, on which ACE does not depend."""
        wrong_way = "D1" in self.deviations
        if covariance == "full" and wrong_way:
            assert background.covariance is not None
            return WrongWay(background.covariance, shape)
        if covariance == "diagonal" and "D2" in self.deviations:
            precision = pyramid.column_energy(background.whitening, shape.places[-1])  # the diagonal of Σ⁻¹
            return Weighted(1 / precision if wrong_way else precision, shape)
        if covariance == "diagonal" and wrong_way:
            return Weighted([variance.clone() for variance in background.variances()], shape)
        return super().inner_product(background, covariance, shape)

    def shares(self, covariance: str) -> frozenset[str]:
        """The deviations that the inner product of a covariance structure depends on."""
        return self.deviations & {"full": {"D1"}, "diagonal": {"D1", "D2"}, "isotropic": set()}[covariance]

    def signature(
        self, mean: Embedding, background: Background, raster: Int[Tensor, " place"], seed: int
    ) -> Signatures:
        """With D3 and D5."""
        centred = "D5" not in self.deviations
        if "D3" not in self.deviations:
            return background.centre(mean) if centred else mean
        scrambled = scramble(pyramid.flatten(mean)[:, 0], raster, seed)
        if centred:
            scrambled = scrambled - pyramid.flatten([m.unsqueeze(1) for m in background.mean])[:, 0]
        return scrambled.unsqueeze(-1)


CONVENTIONS: dict[str, Convention] = {
    "centred": Deviating(),
    "equation": Deviating(frozenset({"D5"})),
    "published": Deviating(frozenset(DEVIATIONS)),
    **{f"centred+{d}": Deviating(frozenset({d})) for d in DEVIATIONS},
    **{f"published-{d}": Deviating(frozenset(DEVIATIONS) - {d}) for d in DEVIATIONS},
}
"""By their names in ``scores.csv``."""


class WrongWay(InnerProduct):
    """``⟨x, y⟩ = xᵀ Σ y``: what whitening by Σ^(+1/2) amounts to (D1)."""

    def __init__(self, covariance: BlockRows, shape: Shape) -> None:
        self.covariance = covariance
        self.shape = shape

    def prepare(self, signatures: Signatures) -> Prepared:
        """See :class:`padim_ace.detect.inner_products.InnerProduct`."""
        fine = inner_products.fine_signatures(signatures)
        product = pyramid.fine_product(self.covariance, fine, symmetric=True)
        return Prepared(self.shape.directions(product), (product * fine).sum(1))

    def measure(self, centred: Embedding, groups: Sequence[Prepared]) -> tuple[Energy, list[Projection]]:
        """See :class:`padim_ace.detect.inner_products.InnerProduct`."""
        return quadratic_form(self.covariance, centred), [project(centred, g.directions) for g in groups]


def scramble(
    mean: Float[Tensor, "place feature"], raster: Int[Tensor, " place"], seed: int
) -> Float[Tensor, "place feature"]:
    """D3: an (row, column, feature) mean read as (feature, row · column).

    Args:
        mean: signature at the places of the finest grid, in block order.
        raster: where the places of an image, row by row, are in block order (:attr:`Embedder.raster`).
        seed: the code keeps features in a random order; this draws one, another than that of the subset.
    """
    places, features = mean.shape
    order = torch.randperm(features, generator=torch.Generator().manual_seed(seed)).to(mean.device)
    image = mean[raster][:, order]  # (row · column, feature): the memory layout of (row, column, feature)
    wrong = image.reshape(features, places).T
    result = torch.empty_like(mean)
    result[raster] = wrong[:, order.argsort()]
    return result
