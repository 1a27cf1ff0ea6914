"""Inner products on embeddings: what each covariance structure whitens with.

ACE and Mahalanobis are functions of an energy ``E = ⟨x, x⟩`` and a projection ``A = ⟨s, x⟩``
(:mod:`padim_ace.detect.statistics`). Each class here is one inner product ⟨·, ·⟩ over a background. It
prepares signatures once (:meth:`prepare`) and then gives ``E`` and all ``A`` of a batch (:meth:`measure`).

A signature is an embedding whose images are signatures, or, if it does not repeat where coarse features do, a
tensor ``[place, feature, signature]`` at every place of the finest grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.background import Background, isotropic_variance
from padim_ace.detect.pyramid import (
    BlockRows,
    Directions,
    Embedding,
    column_energy,
    energy,
    fine_directions,
    fine_product,
    lower_product,
    project,
    quadratic_form,
    repeated_directions,
)

Signatures = Embedding | Float[Tensor, "place feature signature"]
Energy = Float[Tensor, "place image"]
Projection = Float[Tensor, "place image signature"]


@dataclass(frozen=True)
class Shape:
    """Places and features of the stages, coarse to fine."""

    places: tuple[int, ...]
    features: tuple[int, ...]

    @classmethod
    def of(cls, embedding: Embedding) -> Shape:
        """The shape of an embedding."""
        return cls(tuple(s.shape[0] for s in embedding), tuple(s.shape[-1] for s in embedding))


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

    def __init__(self, background: Background, shape: Shape) -> None:
        self.whitening = background.whitening
        self.shape = shape

    def whiten(self, centred: Embedding) -> Embedding:
        """``W (x - μ)``."""
        return lower_product(self.whitening, centred)

    def prepare(self, signatures: Signatures) -> Prepared:
        """See :class:`InnerProduct`."""
        if isinstance(signatures, Tensor):
            white = fine_product(self.whitening, signatures, symmetric=False)
            return Prepared(
                fine_directions(white, self.shape.places, self.shape.features), white.square().sum(1)
            )
        return self.prepare_whitened(self.whiten(signatures))

    def prepare_whitened(self, white: Embedding) -> Prepared:
        """Signatures that are already white."""
        return Prepared(repeated_directions(white), energy(white))

    def measure(self, centred: Embedding, groups: Sequence[Prepared]) -> tuple[Energy, list[Projection]]:
        """See :class:`InnerProduct`."""
        white = self.whiten(centred)
        return energy(white), [project(white, group.directions) for group in groups]


class Weighted(InnerProduct):
    """``⟨x, y⟩ = Σ_d w_d x_d y_d``, one weight for each feature.

    ``weights`` are stages ``[place, feature]`` where they repeat as coarse features do (the inverse variances
    of a diagonal covariance), else ``[place, feature]`` at every place of the finest grid.
    """

    def __init__(self, weights: list[Tensor] | Tensor, shape: Shape) -> None:
        self.weights = weights
        self.shape = shape
        signatures = (
            weights.unsqueeze(-1)
            if isinstance(weights, Tensor)
            else [stage.unsqueeze(1) for stage in weights]
        )
        self._on_squares = self._directions(signatures)

    def _directions(self, signatures: Signatures) -> Directions:
        if isinstance(signatures, Tensor):
            return fine_directions(signatures, self.shape.places, self.shape.features)
        return repeated_directions(signatures)

    def _fine_weights(self) -> Tensor:
        if isinstance(self.weights, Tensor):
            return self.weights
        places = self.shape.places[-1]
        return torch.cat([w.repeat_interleave(places // w.shape[0], 0) for w in self.weights], -1)

    def prepare(self, signatures: Signatures) -> Prepared:
        """See :class:`InnerProduct`."""
        if isinstance(signatures, Tensor) or isinstance(self.weights, Tensor):
            fine = signatures if isinstance(signatures, Tensor) else _flat_signatures(signatures)
            scaled = self._fine_weights().unsqueeze(-1) * fine
            return Prepared(self._directions(scaled), (scaled * fine).sum(1))
        weighted = [w.unsqueeze(1) * s for w, s in zip(self.weights, signatures, strict=True)]
        squares = [s.square() for s in signatures]
        return Prepared(self._directions(weighted), project(squares, self._on_squares)[..., 0])

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
        if isinstance(signatures, Tensor):
            directions = fine_directions(signatures, self.shape.places, self.shape.features)
            return Prepared(directions, signatures.square().sum(1) / self.variance)
        return Prepared(repeated_directions(signatures), energy(signatures) / self.variance)

    def measure(self, centred: Embedding, groups: Sequence[Prepared]) -> tuple[Energy, list[Projection]]:
        """See :class:`InnerProduct`."""
        projections = [project(centred, group.directions) / self.variance.unsqueeze(-1) for group in groups]
        return energy(centred) / self.variance, projections


class WrongWay(InnerProduct):
    """``⟨x, y⟩ = xᵀ Σ y``: what whitening by Σ^(+1/2) amounts to (deviation D1 of the published code)."""

    def __init__(self, background: Background, shape: Shape) -> None:
        self.covariance: BlockRows = background.covariance
        self.shape = shape

    def prepare(self, signatures: Signatures) -> Prepared:
        """See :class:`InnerProduct`."""
        fine = signatures if isinstance(signatures, Tensor) else _flat_signatures(signatures)
        product = fine_product(self.covariance, fine, symmetric=True)
        directions = fine_directions(product, self.shape.places, self.shape.features)
        return Prepared(directions, (product * fine).sum(1))

    def measure(self, centred: Embedding, groups: Sequence[Prepared]) -> tuple[Energy, list[Projection]]:
        """See :class:`InnerProduct`."""
        return quadratic_form(self.covariance, centred), [project(centred, g.directions) for g in groups]


def precision_diagonal(background: Background, places: int) -> Float[Tensor, "place feature"]:
    """The diagonal of Σ⁻¹ at every place of the finest grid: the squared column norms of the whitening."""
    return column_energy(background.whitening, places)


def isotropic(background: Background, aggregation: str, shape: Shape) -> Isotropic:
    """The isotropic inner product of a background's covariance, aggregated to one variance (Table 4)."""
    return Isotropic(isotropic_variance(background, aggregation, shape.places[-1]), shape)


def _flat_signatures(signatures: Embedding) -> Float[Tensor, "place feature signature"]:
    places = signatures[-1].shape[0]
    return torch.cat([s.repeat_interleave(places // s.shape[0], 0) for s in signatures], -1).transpose(1, 2)
