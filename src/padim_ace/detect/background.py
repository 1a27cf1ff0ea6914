"""The background: mean and covariance of normal embeddings, streamed, then factored once.

Two ways to tie places together, all from the same moments:

- ``patch``: own mean and covariance at every place (PaDiM's).
- ``shared``: one mean and one covariance for all places.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from padim_ace.detect import pyramid
from padim_ace.detect.pyramid import BlockRows, Embedding
from padim_ace.detect.registry import BACKGROUNDS, expect_one_of

REGULARISATION = 0.01  #: Added to each variance, as PaDiM does: few images, too, have an inverse

Means = list[Float[Tensor, "_place _feature"]]


class Moments:
    """Count, sum and products of embeddings at every place, in memory that does not grow with images.

    A covariance is a small difference of large sums, so embeddings are measured from the mean of the first
    batch before they are multiplied, and everything is summed in float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self._origin: Means = []
        self._total: Means = []
        self._products = BlockRows([], [])

    def update(self, embedding: Embedding) -> None:
        """Add a batch of embeddings, ``[place, image, feature]`` at each stage."""
        images = embedding[0].shape[1]
        if images == 0:
            return
        if not self.count:
            self._origin = [stage.mean(1) for stage in embedding]
            self._total = [torch.zeros_like(stage, dtype=torch.float64) for stage in self._origin]
            self._products = pyramid.empty_products(embedding)
        embedding = centre(embedding, self._origin)
        exact = embedding[0].device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
        if not exact or torch.is_autocast_enabled("cpu"):  # products of float32 would lose some of its bits
            embedding = [stage.double() for stage in embedding]
        for total, stage in zip(self._total, embedding, strict=True):
            total.add_(stage.sum(1, dtype=torch.float64))
        pyramid.add_products(self._products, embedding)
        self.count += images

    def mean(self) -> Means:
        """Mean embedding, ``[place, feature]`` at each stage, in float64."""
        self._require(1)
        return [o + total / self.count for o, total in zip(self._origin, self._total, strict=True)]

    def scatter(self) -> BlockRows:
        """``Σ (x - mean)(x - mean)ᵀ`` at every place, in float64."""
        self._require(1)
        rows = self._products.map(torch.clone)
        pyramid.add_products(rows, [total.unsqueeze(1) for total in self._total], alpha=-1 / self.count)
        return rows

    def all_reduce(self) -> None:
        """Make these the moments of all ranks' images together (``torch.distributed``)."""
        self._require(1)
        # sums of other ranks are around other origins: all are brought to zero, in float64
        mean, self._products = self.mean(), self.scatter()
        pyramid.add_products(self._products, [m.unsqueeze(1) for m in mean], alpha=self.count)
        self._origin, self._total = [torch.zeros_like(m) for m in mean], [m * self.count for m in mean]
        count = torch.tensor(self.count, device=self._total[0].device)
        for part in (count, *self._total, *self._products.own, *self._products.cross):
            dist.all_reduce(part)
        self.count = int(count)

    def _require(self, images: int) -> None:
        if self.count < images:
            said = f"expected at least {images} normal images, found {self.count}"
            raise ValueError(f"background: {said}; add images")

    def state(self) -> dict:
        """What a checkpoint stores; :meth:`from_state` takes it back."""
        return vars(self) | {"_products": vars(self._products)}

    @classmethod
    def from_state(cls, state: dict) -> "Moments":
        """Moments from :meth:`state`."""
        moments = cls()
        vars(moments).update(state, _products=BlockRows(**state["_products"]))
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
    covariance: BlockRows | None  #: None where only the whitening is kept
    whitening: BlockRows
    samples: int = 0  #: Embeddings that each covariance was estimated from
    kept: Int[Tensor, " kept"] | None = None  #: Which features of the finest stage it is of; all, if None

    def narrow(self, embedding: Embedding) -> Embedding:
        """The features that it is of."""
        return pyramid.narrow(embedding, self.kept)

    def centre(self, embedding: Embedding) -> Embedding:
        """``x - μ``."""
        return centre(embedding, self.mean)

    def whiten(self, embedding: Embedding) -> Embedding:
        """``W (x - μ)`` of the features that it is of."""
        return pyramid.lower_product(self.whitening, self.centre(self.narrow(embedding)))

    def variances(self) -> Means:
        """The diagonal of the covariance, at each stage."""
        assert self.covariance is not None
        return [own.diagonal(dim1=-2, dim2=-1) for own in self.covariance.own]


def _average_place(rows: BlockRows) -> BlockRows:
    """One matrix for all places: the average over the finest grid."""
    cross = [
        block.reshape(-1, own.shape[-1], block.shape[-1]).mean(0, keepdim=True) if block.numel() else block
        for block, own in zip(rows.cross, rows.own, strict=True)
    ]
    return BlockRows(cross, [own.mean(0, keepdim=True) for own in rows.own])


def fit_background(
    moments: Moments,
    kind: str = "patch",
    *,
    kept: Int[Tensor, " kept"] | None = None,
    regularisation: float = REGULARISATION,
    dtype: torch.dtype = torch.float32,
) -> Background:
    """The background that ``moments`` describe, factored in float64 and stored as ``dtype``.

    Args:
        moments: of at least two normal images, or it is a ValueError.
        kind: ``patch`` or ``shared`` (see the module).
        kept: which features of the finest stage it is of; all, if None.
        regularisation: added to each variance.
        dtype: of the result.
    """
    expect_one_of("background", kind, BACKGROUNDS)
    moments._require(2)
    mean, scatter = moments.mean(), moments.scatter()
    if kept is not None:
        mean, scatter = pyramid.narrow(mean, kept), scatter.narrow(kept)
    samples, factor = moments.count, 1 / (moments.count - 1)
    if kind == "shared":
        places = mean[-1].shape[0]
        samples *= places
        shared = [m.mean(0, keepdim=True) for m in mean]
        between = [(m - s).unsqueeze(1) for m, s in zip(mean, shared, strict=True)]
        pyramid.add_products(scatter, between, alpha=moments.count)
        mean, scatter, factor = shared, _average_place(scatter), places / (samples - 1)
    covariance = scatter.map(lambda block: block.mul_(factor))
    for own in covariance.own:
        own.diagonal(dim1=-2, dim2=-1).add_(regularisation)
    covariance, whitening = (
        rows.map(lambda block: block.to(dtype)) for rows in (covariance, pyramid.inverse_cholesky(covariance))
    )
    return Background([m.to(dtype) for m in mean], covariance, whitening, samples, kept)
