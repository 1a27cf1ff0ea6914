"""Target signatures: what an anomalous patch looks like, measured from the background.

- :class:`MeanSignature`: the mean embedding of anomalous images at every place (the paper's).
- All others are *pooled*: one direction, or a few, for all places, made of whitened anomalous patches of unit
  length (:class:`PatchMoments`). Which patches are targets is said by masks, or, where only image labels are
  known, by their distance: *mined* patches are the farthest from the background (:func:`mined_patches`).
- Mined patches are not all target: the brightest clutter is among them. :func:`contrast` and :func:`subspace`
  find what sets them apart from clutter, the farthest patches of *normal* images.
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


class PatchMoments:
    """Mean and second moment of whitened patches of unit length, streamed in float64."""

    def __init__(self) -> None:
        self.weight = self._total = self._products = torch.zeros((), dtype=torch.float64)

    def add(
        self, patches: Float[Tensor, "rank image feature"], given: Float[Tensor, " image"] | None = None
    ) -> None:
        """Add patches of unit length, those of each image weighted by ``given`` (by 1, if None)."""
        patches = patches.double()
        given = torch.ones_like(patches[0, :, 0]) if given is None else given.double()
        weighted = patches * given[:, None]
        self.add_sum(weighted.sum((0, 1)), len(patches) * given.sum())
        self._products = self._products + patches.flatten(0, 1).T @ weighted.flatten(0, 1)

    def add_sum(self, total: Direction, weight: Tensor) -> None:
        """Add a weighted sum of patches and the sum of the weights, where no second moment is wanted."""
        self._total = self._total + total
        self.weight = self.weight + weight

    def all_reduce(self) -> None:
        """Make these the moments of all ranks' patches together (``torch.distributed``)."""
        for part in (self.weight, self._total, self._products):
            dist.all_reduce(part)

    def mean(self) -> Direction:
        """The mean, in float64; no longer of unit length.

        Raises:
            ValueError: if no patch with a weight was added.
        """
        _require(self.weight)
        return self._total / self.weight

    def second(self) -> Products:
        """The mean of ``ŷ ŷᵀ``, in float64: a matrix of trace 1.

        Raises:
            ValueError: if no patch was added.
        """
        _require(self.weight)
        return self._products / self.weight


def covered_sums(
    white: Embedding,
    energy: Float[Tensor, "place image"],
    weights: Float[Tensor, "signature place image"],
) -> Float[Tensor, "signature feature"]:
    """``Σ w y / ‖y‖`` over all places and images, in float64, for several sets of weights w.

    ``energy`` is ``‖y‖²``.
    """
    scaled = weights.double() / energy.clamp_min(torch.finfo(energy.dtype).tiny).sqrt()
    sums = []
    for stage in white:
        places, images, features = stage.shape
        of_place = scaled.view(len(weights), places, -1, images).sum(2)
        sums.append(of_place.view(len(weights), -1) @ stage.reshape(-1, features).double())
    return torch.cat(sums, -1)


def mined_patches(
    white: Embedding, energy: Float[Tensor, "place image"], count: int
) -> Float[Tensor, "rank image feature"]:
    """The ``count`` patches of each image that are farthest from the background, farthest first, at unit
    length; ``energy`` is their squared length.

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


Directions = Float[Tensor, "feature direction"]


def mined(targets: PatchMoments, clutter: PatchMoments, count: int) -> Directions:
    """The mean of the patches that are farthest from the background."""
    return targets.mean().unsqueeze(1)


def masked(targets: PatchMoments, clutter: PatchMoments, count: int) -> Directions:
    """The mean of the patches under masks, each weighted by the part of it that is covered."""
    return targets.mean().unsqueeze(1)


def contrast(targets: PatchMoments, clutter: PatchMoments, count: int) -> Directions:
    r"""The direction in which mined patches differ from clutter: :math:`(C + I / D)^{-1} m`, of unit length.

    Fisher's linear discriminant between the mined patches' mean m and patches of no mean. Whitening makes the
    background as a whole isotropic; C, the second moment of clutter, of trace 1, says in which directions its
    *farthest* patches lie. The identity, of the same trace, keeps directions that clutter never took from
    being divided by nothing.
    """
    found = torch.linalg.solve(_loaded(clutter.second()), targets.mean())
    return (found / found.norm()).unsqueeze(1)


def subspace(targets: PatchMoments, clutter: PatchMoments, count: int) -> Directions:
    r"""The directions in which mined patches have the most energy relative to clutter, orthonormal.

    The leading ``count`` generalised eigenvectors of :math:`M v = \lambda (C + I/D) v`, with M and C the
    second moments of mined patches and of clutter, made orthonormal in their order: the first r columns span
    the subspace of r dimensions. A subspace has room for targets that differ.

    Raises:
        ValueError: for more dimensions than features.
    """
    mined = targets.second()
    if not 1 <= count <= len(mined):
        raise ValueError(f"target subspace: expected 1 to {len(mined)} dimensions, found {count}")
    lower = torch.linalg.cholesky(_loaded(clutter.second()))
    half = torch.linalg.solve_triangular(lower, mined, upper=False)
    ratio = torch.linalg.solve_triangular(lower, half.mT, upper=False)
    leading = torch.linalg.eigh((ratio + ratio.mT) / 2).eigenvectors.flip(-1)[:, :count]
    return torch.linalg.qr(torch.linalg.solve_triangular(lower.mT, leading, upper=True)).Q


def directions(name: str, targets: PatchMoments, clutter: PatchMoments, count: int) -> Directions:
    """The directions of the pooled signature of this name, ``count`` where it has several.

    It is made of the moments of the target patches, whitened and of unit length, and where it is held against
    clutter of those of the farthest patches of normal images.
    """
    return globals()[name](targets, clutter, count)


def as_embedding(directions: Float[Tensor, "feature direction"], features: Sequence[int]) -> Embedding:
    """Directions, the same at all places, as the stages ``[1, direction, feature]`` of an embedding."""
    return [part.T.float().unsqueeze(0).contiguous() for part in directions.split(list(features))]


def _loaded(clutter: Products) -> Products:
    return clutter + torch.eye(len(clutter), dtype=clutter.dtype, device=clutter.device) / len(clutter)


def _require(weight: float | Tensor) -> None:
    if not weight > 0:
        raise ValueError(
            "target signature: expected anomalous images with targets, found none; add anomalous images"
        )
