"""Inner products on embeddings: what each covariance structure whitens with.

ACE and Mahalanobis are functions of an energy ``E = ⟨x, x⟩`` and a projection ``A = ⟨s, x⟩``
(:mod:`padim_ace.detect.statistics`). Each class here is one inner product ⟨·, ·⟩ over a background. It
prepares signatures once (:meth:`prepare`) and then gives ``E`` and all ``A`` of a batch (:meth:`measure`).

A signature is an embedding whose images are signatures, or, if it does not repeat where coarse features do, a
tensor ``[place, feature, signature]`` at every place of the finest grid.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from padim_ace.detect import pyramid
from padim_ace.detect.background import Background
from padim_ace.detect.pyramid import BlockRows, Directions, Embedding, Energy, project
from padim_ace.detect.registry import COVARIANCES, expect_one_of

Signatures = Embedding | Float[Tensor, "place feature signature"]
Projection = Float[Tensor, "place image signature"]


@dataclass(frozen=True)
class Shape:
    """Places and features of the stages, coarse to fine."""

    places: tuple[int, ...]
    features: tuple[int, ...]

    def directions(self, signatures: Signatures) -> Directions:
        """Signatures in the form that ``pyramid.project`` takes."""
        if isinstance(signatures, Tensor):
            return pyramid.fine_directions(signatures, self.places, self.features)
        return pyramid.repeated_directions(signatures)


@dataclass
class Prepared:
    """Signatures ready to be projected on, and their energies ``S = ⟨s, s⟩``."""

    directions: Directions
    energy: Float[Tensor, "place signature"]


class InnerProduct(ABC):
    """What a detector needs of a covariance structure."""

    @abstractmethod
    def prepare(self, signatures: Signatures) -> Prepared:
        """Bring signatures, measured from the background's mean, into the form that :meth:`measure` takes."""

    @abstractmethod
    def measure(self, centred: Embedding, groups: Sequence[Prepared]) -> tuple[Energy, list[Projection]]:
        """``E`` of each embedding, and ``A`` on each group of signatures."""


class Full(InnerProduct):
    """``⟨x, y⟩ = xᵀ Σ⁻¹ y``, by the Cholesky whitening ``W = L⁻¹``."""

    def __init__(self, whitening: BlockRows, shape: Shape) -> None:
        self.whitening = whitening
        self.shape = shape

    def whiten(self, centred: Embedding) -> Embedding:
        """``W (x - μ)``."""
        return pyramid.lower_product(self.whitening, centred)

    def prepare(self, signatures: Signatures) -> Prepared:
        """See :class:`InnerProduct`."""
        if isinstance(signatures, Tensor):
            white = pyramid.fine_product(self.whitening, signatures, symmetric=False)
            return Prepared(self.shape.directions(white), white.square().sum(1))
        return self.prepare_whitened(self.whiten(signatures))

    def prepare_whitened(self, white: Embedding) -> Prepared:
        """Signatures that are already white."""
        return Prepared(pyramid.repeated_directions(white), pyramid.energy(white))

    def measure(self, centred: Embedding, groups: Sequence[Prepared]) -> tuple[Energy, list[Projection]]:
        """See :class:`InnerProduct`."""
        white = self.whiten(centred)
        return pyramid.energy(white), [project(white, group.directions) for group in groups]


class Weighted(InnerProduct):
    """``⟨x, y⟩ = Σ_d w_d x_d y_d``, one weight for each feature.

    ``weights`` are stages ``[place, feature]`` where they repeat as coarse features do (the inverse variances
    of a diagonal covariance), else ``[place, feature]`` at every place of the finest grid.
    """

    def __init__(self, weights: list[Tensor] | Tensor, shape: Shape) -> None:
        self.weights = weights
        self.shape = shape
        self._as_signature: Signatures = (
            weights.unsqueeze(-1) if isinstance(weights, Tensor) else [w.unsqueeze(1) for w in weights]
        )
        self._on_squares = shape.directions(self._as_signature)

    def prepare(self, signatures: Signatures) -> Prepared:
        """See :class:`InnerProduct`."""
        weights = self._as_signature
        if isinstance(signatures, Tensor) or isinstance(weights, Tensor):
            fine = fine_signatures(signatures)
            scaled = fine_signatures(weights) * fine
            return Prepared(self.shape.directions(scaled), (scaled * fine).sum(1))
        weighted = [w * s for w, s in zip(weights, signatures, strict=True)]
        squares = [s.square() for s in signatures]
        return Prepared(self.shape.directions(weighted), project(squares, self._on_squares)[..., 0])

    def measure(self, centred: Embedding, groups: Sequence[Prepared]) -> tuple[Energy, list[Projection]]:
        """See :class:`InnerProduct`."""
        squares = [stage.square() for stage in centred]
        return project(squares, self._on_squares)[..., 0], [project(centred, g.directions) for g in groups]


class Isotropic(InnerProduct):
    """``⟨x, y⟩ = xᵀ y / c`` with one variance c at every place: ACE does not depend on it."""

    def __init__(self, variance: Float[Tensor, " place"], shape: Shape) -> None:
        self.variance = variance.unsqueeze(-1)
        self.shape = shape

    def prepare(self, signatures: Signatures) -> Prepared:
        """See :class:`InnerProduct`."""
        length = signatures.square().sum(1) if isinstance(signatures, Tensor) else pyramid.energy(signatures)
        return Prepared(self.shape.directions(signatures), length / self.variance)

    def measure(self, centred: Embedding, groups: Sequence[Prepared]) -> tuple[Energy, list[Projection]]:
        """See :class:`InnerProduct`."""
        projections = [project(centred, group.directions) / self.variance.unsqueeze(-1) for group in groups]
        return pyramid.energy(centred) / self.variance, projections


def inner_product(background: Background, covariance: str, shape: Shape) -> InnerProduct:
    """The inner product that a covariance structure, one of :data:`COVARIANCES`, makes of a background."""
    expect_one_of("covariance", covariance, COVARIANCES)
    if covariance == "full":
        return Full(background.whitening, shape)
    if covariance == "diagonal":
        return Weighted([1 / variance for variance in background.variances()], shape)
    return Isotropic(mean_variance(background, shape.places[-1]), shape)


def mean_variance(background: Background, places: int) -> Float[Tensor, " place"]:
    """The mean of the covariance's diagonal at ``places`` places of the finest grid.

    Any other positive number for each place would do: ACE does not depend on it.
    """
    variances = background.variances()
    features = sum(stage.shape[-1] for stage in variances)
    return pyramid.upsample(pyramid.summed(stage.sum(-1) for stage in variances), places) / features


def fine_signatures(signatures: Signatures) -> Float[Tensor, "place feature signature"]:
    """Signatures written out at every place of the finest grid."""
    return signatures if isinstance(signatures, Tensor) else pyramid.flatten(signatures).transpose(1, 2)
