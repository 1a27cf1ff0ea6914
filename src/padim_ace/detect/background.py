"""The background: mean and covariance of normal embeddings, streamed, then factored once.

Four ways to tie places together, all from the same moments:

- ``patch``: own mean and covariance at every place (PaDiM's).
- ``pooled``: own mean at every place, one covariance: the average of theirs.
- ``shared``: one mean and one covariance for all places.
- ``shrunk``: own mean at every place, and a covariance between those of ``patch`` and ``pooled``, with the
  weight
  under which held-out normal images are most likely (:func:`shrinkage_likelihoods`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.pyramid import (
    BlockRows,
    Embedding,
    add_products,
    dense,
    empty_products,
    inverse_cholesky,
    upsample,
)

REGULARISATION = 0.01
"""Added to each variance, as PaDiM does; it keeps a covariance of few images invertible."""
SHRINKAGES = (0.0, 0.01, 0.1, 0.3, 1.0)
"""Weights of the pooled covariance among which held-out images choose."""

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
        return [stage - mean.unsqueeze(1) for stage, mean in zip(embedding, self.mean, strict=True)]

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


def _mixed(patch: BlockRows, pooled: BlockRows, weight: float) -> BlockRows:
    """``(1 - weight) · patch + weight · pooled`` at every place."""
    cross = []
    for own, many, one in zip(patch.own, patch.cross, pooled.cross, strict=True):
        children = many.shape[1] // own.shape[-1]
        cross.append((1 - weight) * many + weight * one.repeat(1, children, 1) if many.numel() else many)
    blocks = [(1 - weight) * many + weight * one for many, one in zip(patch.own, pooled.own, strict=True)]
    return BlockRows(cross, blocks)


def _regularised(rows: BlockRows, amount: float) -> BlockRows:
    own = [o + amount * torch.eye(o.shape[-1], dtype=o.dtype, device=o.device) for o in rows.own]
    return BlockRows(rows.cross, own)


def fit_background(
    moments: Moments,
    kind: str = "patch",
    *,
    shrinkage: float = 0.0,
    regularisation: float = REGULARISATION,
    dtype: torch.dtype = torch.float32,
) -> Background:
    """The background that ``moments`` describe, factored in float64 and stored as ``dtype``.

    Args:
        moments: of at least two normal images.
        kind: ``patch``, ``pooled``, ``shared`` or ``shrunk`` (see the module).
        shrinkage: for ``shrunk``, the weight in [0, 1] of the pooled covariance.
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
    if kind == "shrunk":
        covariance = _mixed(covariance, _average_place(covariance), shrinkage)
    elif kind == "pooled":
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
        raise ValueError(f"background: expected patch, pooled, shared or shrunk, found {kind!r}")
    covariance = _regularised(covariance, regularisation)
    whitening = inverse_cholesky(covariance)
    return Background([m.to(dtype) for m in mean], covariance.to(dtype), whitening.to(dtype), samples)


def shrinkage_likelihoods(
    moments: Moments, held_out: Moments, weights: Sequence[float] = SHRINKAGES
) -> dict[float, float]:
    r"""For each weight of the pooled covariance, the mean Gaussian log-likelihood of held-out patches.

    .. math:: -\tfrac12 \left( \operatorname{tr}(\Sigma_p^{-1} S_p) + \log\det\Sigma_p + D \log 2\pi \right),

    averaged over places p, where S is the held-out images' second moment about the background's mean: their
    moments say all there is to know, so no image is looked at twice.

    Args:
        moments: of the normal images that train.
        held_out: of other normal images.
        weights: to compare.

    Raises:
        ValueError: for fewer than two images that train, or none held out.
    """
    moments._require(2)
    held_out._require(1)
    second = held_out.scatter()
    mean = moments.mean()
    offset = [(h - m).unsqueeze(1) for h, m in zip(held_out.mean(), mean, strict=True)]
    add_products(second, offset, alpha=held_out.count)
    second = _scaled(second, 1 / held_out.count).to(torch.float32)
    patch = _scaled(moments.scatter(), 1 / (moments.count - 1)).to(torch.float32)
    pooled = _average_place(patch)
    stages = range(len(second.own))
    about_mean = [dense(BlockRows(second.cross[: s + 1], second.own[: s + 1])) for s in stages]
    found = {}
    for weight in weights:
        white = inverse_cholesky(_regularised(_mixed(patch, pooled, weight), REGULARISATION))
        total = sum(own.shape[-1] for own in white.own) * math.log(2 * math.pi)
        for cross, own, second_moment in zip(white.cross, white.own, about_mean, strict=True):
            before = second_moment.shape[-1] - own.shape[-1]
            rows = torch.cat([cross.reshape(*own.shape[:2], before), own], -1)
            total += float(((rows @ second_moment) * rows).sum((-1, -2)).double().mean())
            total -= 2 * float(own.diagonal(dim1=-2, dim2=-1).log().sum(-1).double().mean())
        found[weight] = -total / 2
    return found


AGGREGATIONS = ("mean_diagonal", "mean_full", "determinant", "trace")


def isotropic_variance(background: Background, aggregation: str, places: int) -> Float[Tensor, " place"]:
    """One variance per place of the finest grid that stands for the whole covariance (the paper's Table 4).

    ``mean_diagonal`` averages the diagonal, ``mean_full`` all entries, ``trace`` adds the diagonal up,
    ``determinant`` is det(Σ)^(1/D): the root keeps it within a float's range, and ACE does not see it.

    Raises:
        ValueError: for an unknown aggregation.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"aggregation: expected one of {', '.join(AGGREGATIONS)}, found {aggregation!r}")
    covariance = background.covariance
    features = sum(own.shape[-1] for own in covariance.own)
    if aggregation == "determinant":  # log det Σ = -2 Σ log diag(L⁻¹)
        blocks = [-2 * own.diagonal(dim1=-2, dim2=-1).log().sum(-1) for own in background.whitening.own]
    elif aggregation == "mean_full":
        blocks = [own.sum((-1, -2)) for own in covariance.own]
        for level, cross in enumerate(covariance.cross[1:], 1):
            blocks[level] = blocks[level] + 2 * cross.reshape(blocks[level].shape[0], -1).sum(-1)
    else:
        blocks = [variances.sum(-1) for variances in background.variances()]
    total = upsample(blocks[0], places)
    for block in blocks[1:]:
        total = total + upsample(block, places)
    if aggregation == "determinant":
        return (total / features).exp()
    return total / {"mean_diagonal": features, "mean_full": features**2, "trace": 1}[aggregation]
