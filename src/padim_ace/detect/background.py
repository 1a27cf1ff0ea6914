"""The background: mean and covariance of normal embeddings, streamed, then factored once.

Three ways to tie places together, all from the same moments:

- ``patch``: own mean and covariance at every place (PaDiM's).
- ``pooled``: own mean at every place, one covariance: the average of theirs.
- ``shared``: one mean and one covariance for all places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.pyramid import (
    BlockRows,
    Embedding,
    add_products,
    empty_products,
    inverse_cholesky,
)
from padim_ace.detect.registry import BACKGROUNDS

REGULARISATION = 0.01
"""Added to each variance, as PaDiM does; it keeps a covariance of few images invertible."""

Means = list[Float[Tensor, "_place _feature"]]


class Moments:
    """Count, mean and scatter of embeddings at every place, in memory that does not grow with images.

    Sums are kept of differences from the first batch's mean: a covariance is then a small difference of small
    numbers, and float32 is enough to accumulate in.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift: Means = []
        self._total: Means = []
        self._products = BlockRows([], [])

    def update(self, embedding: Embedding) -> None:
        """Add a batch of embeddings, ``[place, image, feature]`` at each stage."""
        images = embedding[0].shape[1]
        if images == 0:
            return
        if not self.count:
            self._shift = [stage.mean(1) for stage in embedding]
            self._total = [torch.zeros_like(shift) for shift in self._shift]
            self._products = empty_products(embedding)
        shifted = [stage - shift.unsqueeze(1) for stage, shift in zip(embedding, self._shift, strict=True)]
        for stage, total in zip(shifted, self._total, strict=True):
            total.add_(stage.sum(1))
        add_products(self._products, shifted)
        self.count += images

    def mean(self) -> Means:
        """Mean embedding, ``[place, feature]`` at each stage, in float64."""
        self._require(1)
        return [s.double() + t.double() / self.count for s, t in zip(self._shift, self._total, strict=True)]

    def scatter(self) -> BlockRows:
        """``Σ (x - mean)(x - mean)ᵀ`` at every place, in float64."""
        self._require(1)
        rows = self._products.to(torch.float64, copy=True)
        offset = [(total.double() / self.count).unsqueeze(1) for total in self._total]
        add_products(rows, offset, alpha=-self.count)
        return rows

    def all_reduce(self) -> None:
        """Make these the moments of all ranks' images together (``torch.distributed``)."""
        mean, scatter = self.mean(), self.scatter()
        device = mean[0].device
        count = torch.tensor(float(self.count), dtype=torch.float64, device=device)
        dist.all_reduce(count)
        common = [m * self.count for m in mean]
        for stage in common:
            dist.all_reduce(stage)
            stage.div_(count)
        offset = [(m - c).unsqueeze(1) for m, c in zip(mean, common, strict=True)]
        add_products(scatter, offset, alpha=self.count)
        for block in scatter.tensors():
            dist.all_reduce(block)
        self.count = int(count)
        self._shift, self._total = common, [torch.zeros_like(c) for c in common]
        self._products = scatter

    def _require(self, images: int) -> None:
        if self.count < images:
            raise ValueError(
                f"background: expected at least {images} normal images, found {self.count}; add images"
            )

    def state(self) -> dict:
        """What a checkpoint stores; :meth:`from_state` takes it back."""
        products = {"cross": self._products.cross, "own": self._products.own}
        return {"count": self.count, "shift": self._shift, "total": self._total, "products": products}

    @classmethod
    def from_state(cls, state: dict) -> Moments:
        """Moments from :meth:`state`."""
        moments = cls()
        moments.count, moments._shift, moments._total = state["count"], state["shift"], state["total"]
        moments._products = BlockRows(**state["products"])
        return moments


def centre(embedding: Embedding, mean: Means) -> Embedding:
    """``x - μ``, with one place in ``mean`` where the background is shared."""
    return [stage - of_stage.unsqueeze(1) for stage, of_stage in zip(embedding, mean, strict=True)]


@dataclass
class Background:
    """A Gaussian at every place: its mean, its regularised covariance and the factor that whitens.

    ``mean[l]`` is ``[place, feature]``, with one place where the background is shared.
    """

    mean: Means
    covariance: BlockRows
    whitening: BlockRows
    samples: int = 0
    """Embeddings that each covariance was estimated from."""

    def centre(self, embedding: Embedding) -> Embedding:
        """``x - μ``."""
        return centre(embedding, self.mean)

    def variances(self) -> Means:
        """The diagonal of the covariance, at each stage."""
        return [own.diagonal(dim1=-2, dim2=-1) for own in self.covariance.own]


def _average_place(rows: BlockRows) -> BlockRows:
    """One matrix for all places: the average over the finest grid."""
    cross = []
    for block, own in zip(rows.cross, rows.own, strict=True):
        features = own.shape[-1]
        cross.append(
            block.reshape(-1, features, block.shape[-1]).mean(0, keepdim=True) if block.numel() else block
        )
    return BlockRows(cross, [own.mean(0, keepdim=True) for own in rows.own])


def _scaled(rows: BlockRows, factor: float) -> BlockRows:
    return BlockRows([c * factor for c in rows.cross], [o * factor for o in rows.own])


def _regularised(rows: BlockRows, amount: float) -> BlockRows:
    own = [o + amount * torch.eye(o.shape[-1], dtype=o.dtype, device=o.device) for o in rows.own]
    return BlockRows(rows.cross, own)


def fit_background(
    moments: Moments,
    kind: str = "patch",
    *,
    regularisation: float = REGULARISATION,
    dtype: torch.dtype = torch.float32,
) -> Background:
    """The background that ``moments`` describe, factored in float64 and stored as ``dtype``.

    Args:
        moments: of at least two normal images.
        kind: ``patch``, ``pooled`` or ``shared`` (see the module).
        regularisation: added to each variance.
        dtype: of the result.

    Raises:
        ValueError: for fewer than two images, or an unknown kind.
    """
    moments._require(2)
    mean, scatter = moments.mean(), moments.scatter()
    covariance = _scaled(scatter, 1 / (moments.count - 1))
    places = mean[-1].shape[0]
    samples = moments.count
    if kind == "pooled":
        covariance = _average_place(covariance)
        samples *= places
    elif kind == "shared":
        samples *= places
        shared = [m.mean(0, keepdim=True) for m in mean]
        between = [(m - s).unsqueeze(1) for m, s in zip(mean, shared, strict=True)]
        add_products(scatter, between, alpha=moments.count)
        covariance = _scaled(_average_place(scatter), places / (moments.count * places - 1))
        mean = shared
    elif kind != "patch":
        raise ValueError(f"background: expected one of {', '.join(BACKGROUNDS)}, found {kind!r}")
    covariance = _regularised(covariance, regularisation)
    whitening = inverse_cholesky(covariance)
    return Background([m.to(dtype) for m in mean], covariance.to(dtype), whitening.to(dtype), samples)
