"""Target signatures: what an anomalous patch looks like, measured from the background.

- :class:`MeanSignature`: the mean embedding of anomalous images at every place (the paper's).
- :class:`PooledSignature`: one direction for all places, the weighted mean of whitened anomalous patches,
  each brought to unit length first. The weights say which patches are targets: the part of a patch that a
  mask covers, or, where only image labels are known, 1 at the patches farthest from the background
  (:func:`mined_patches`).
- Mined patches are not all target: the brightest clutter is among them. :class:`PatchProducts` gather second
  moments of mined patches, and of the patches farthest from the background in *normal* images, the clutter;
  :func:`contrast` and :func:`target_subspace` find what sets the first apart from the second.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.pyramid import Embedding

Direction = Float[Tensor, " feature"]
Products = Float[Tensor, "feature feature"]


class MeanSignature:
    """Mean embedding at every place, streamed."""

    def __init__(self) -> None:
        self.count = 0
        self._total: list[Tensor] = []

    def update(self, embedding: Embedding) -> None:
        """Add a batch of anomalous embeddings."""
        sums = [stage.double().sum(1) for stage in embedding]
        self._total = [t + s for t, s in zip(self._total, sums, strict=True)] if self._total else sums
        self.count += embedding[0].shape[1]

    def mean(self) -> Embedding:
        """The mean embedding, as an embedding of one image.

        Raises:
            ValueError: if no anomalous image was added.
        """
        _require(self.count)
        return [(total / self.count).float().unsqueeze(1) for total in self._total]


class PooledSignature:
    """Weighted mean of whitened patches of unit length, streamed in float64."""

    def __init__(self) -> None:
        self.weight: float | Tensor = 0.0
        self._total: Tensor | None = None

    def add(self, total: Direction, weight: float | Tensor) -> None:
        """Add a weighted sum of unit patches, and the sum of the weights."""
        self._total = total.double() if self._total is None else self._total + total
        self.weight = self.weight + weight

    def mean(self) -> Direction:
        """The mean, in float64; no longer of unit length.

        Raises:
            ValueError: if no patch with a weight was added.
        """
        _require(float(self.weight))
        assert self._total is not None
        return self._total / self.weight


class PatchProducts:
    """Mean of ``ŷ ŷᵀ`` over whitened patches of unit length, streamed in float64: a matrix of trace 1."""

    def __init__(self) -> None:
        self.count = 0
        self._total: Tensor | None = None

    def add(self, patches: Float[Tensor, "*patch feature"]) -> None:
        """Add patches of unit length."""
        rows = patches.flatten(0, -2)
        product = (rows.T @ rows).double()
        self._total = product if self._total is None else self._total + product
        self.count += len(rows)

    def all_reduce(self) -> None:
        """Make this the mean over all ranks' patches (``torch.distributed``)."""
        assert self._total is not None
        count = torch.tensor(float(self.count), dtype=torch.float64, device=self._total.device)
        dist.all_reduce(count)
        dist.all_reduce(self._total)
        self.count = int(count)

    def mean(self) -> Products:
        """The mean.

        Raises:
            ValueError: if no patch was added.
        """
        _require(self.count)
        assert self._total is not None
        return self._total / self.count


def covered_sums(
    white: Embedding,
    energy: Float[Tensor, "place image"],
    weights: Float[Tensor, "signature place image"],
) -> Float[Tensor, "signature feature"]:
    """``Σ w y / ‖y‖`` over all places and images, for several sets of weights.

    Args:
        white: whitened embeddings y.
        energy: ``‖y‖²`` at every place of the finest grid.
        weights: of each patch of the finest grid.
    """
    scaled = weights / energy.clamp_min(torch.finfo(energy.dtype).tiny).sqrt()
    sums = []
    for stage in white:
        places, images, features = stage.shape
        of_place = scaled.view(len(weights), places, -1, images).sum(2)
        sums.append(of_place.view(len(weights), -1) @ stage.reshape(-1, features))
    return torch.cat(sums, -1)


def mined_patches(
    white: Embedding, energy: Float[Tensor, "place image"], count: int
) -> Float[Tensor, "rank image feature"]:
    """The ``count`` patches of each image that are farthest from the background, farthest first, at unit
    length.

    Args:
        white: whitened embeddings.
        energy: their squared lengths at every place of the finest grid.
        count: patches of each image.

    Raises:
        ValueError: if an image has fewer patches.
    """
    places = energy.shape[0]
    if not 1 <= count <= places:
        raise ValueError(f"mined patches: expected 1 to {places}, found {count}")
    lengths, at = energy.topk(count, 0)
    parts = []
    for stage in white:
        index = (at // (places // stage.shape[0])).unsqueeze(-1).expand(-1, -1, stage.shape[-1])
        parts.append(stage.gather(0, index))
    return torch.cat(parts, -1) / lengths.clamp_min(torch.finfo(energy.dtype).tiny).sqrt().unsqueeze(-1)


def refined(mean: Direction, mined: Products, rounds: int = 2) -> Direction:
    r"""A mined signature refined by ACE itself: each round weights every mined patch by its cosine.

    :math:`\sum \hat y (\hat y^\top s) = M s`, so that rounds are steps of a power iteration on ``mined``.
    """
    for _ in range(rounds):
        mean = mined @ mean
    return mean / mean.norm()


def contrast(mean: Direction, clutter: Products) -> Direction:
    r"""The direction in which mined patches differ from clutter: :math:`(C + I / D)^{-1} m`, of unit length.

    Fisher's linear discriminant between the mined patches' mean m and patches of no mean. Whitening makes the
    background as a whole isotropic; C, of trace 1, says in which directions its *farthest* patches lie. The
    identity, of the same trace, keeps directions that clutter never took from being divided by nothing.

    Args:
        mean: of mined patches.
        clutter: :class:`PatchProducts` of the farthest patches of normal images.
    """
    found = torch.linalg.solve(_loaded(clutter), mean)
    return found / found.norm()


def target_subspace(
    mined: Products, clutter: Products, dimensions: int
) -> Float[Tensor, "feature dimension"]:
    r"""The directions in which mined patches have the most energy relative to clutter, orthonormal.

    The leading generalised eigenvectors of :math:`M v = \lambda (C + I/D) v`, made orthonormal in their
    order, so that the first r columns span the subspace of r dimensions.

    Args:
        mined: :class:`PatchProducts` of mined patches.
        clutter: the same of the farthest patches of normal images.
        dimensions: how many; a signature is one direction, a subspace has room for targets that differ.

    Raises:
        ValueError: for more dimensions than features.
    """
    features = len(mined)
    if not 1 <= dimensions <= features:
        raise ValueError(f"target subspace: expected 1 to {features} dimensions, found {dimensions}")
    lower = torch.linalg.cholesky(_loaded(clutter))
    half = torch.linalg.solve_triangular(lower, mined, upper=False)
    ratio = torch.linalg.solve_triangular(lower, half.mT, upper=False)
    leading = torch.linalg.eigh((ratio + ratio.mT) / 2).eigenvectors.flip(-1)[:, :dimensions]
    return torch.linalg.qr(torch.linalg.solve_triangular(lower.mT, leading, upper=True)).Q


def as_embedding(directions: Float[Tensor, "feature direction"], features: Sequence[int]) -> Embedding:
    """Directions, the same at all places, as the stages ``[1, direction, feature]`` of an embedding."""
    return [part.T.float().unsqueeze(0).contiguous() for part in directions.split(list(features))]


def _loaded(clutter: Products) -> Products:
    return clutter + torch.eye(len(clutter), dtype=clutter.dtype, device=clutter.device) / len(clutter)


def _require(weight: float) -> None:
    if not weight > 0:
        raise ValueError(
            "target signature: expected anomalous images with targets, found none; add anomalous images"
        )
