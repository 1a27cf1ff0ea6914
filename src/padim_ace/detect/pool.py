"""All the pooled signatures that one pass gathers for many detectors, in the space that one background
whitens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.pyramid import Embedding, energy
from padim_ace.detect.signature import (
    PatchProducts,
    PooledSignature,
    contrast,
    covered_sums,
    mined_patches,
    refined,
    target_subspace,
)
from padim_ace.experiment.detectors import DEFAULT_PATCHES, Detector


class Pool:
    """The pooled signatures of one seed's detectors that share a background.

    ``needed`` says whether there are any, ``contrasts`` whether :meth:`add_clutter` is to be given normal
    images.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        pooled = [d for d in detectors if d.pooled]
        families = {d.family for d in pooled}
        self.needed = bool(pooled)
        self.contrasts = bool(families & {"contrast", "subspace"})
        self._families = families
        self._masked = {d.signature: d.images for d in pooled if d.family == "masked"}
        self._mined = {d.signature: (d.patches, d.images) for d in pooled if d.family == "mined"}
        if families & {"refined", "contrast", "subspace"}:
            self._mined.setdefault(_DEFAULT, (DEFAULT_PATCHES, None))
        self._dimensions = max((d.dimensions for d in pooled if d.family == "subspace"), default=0)
        self._sums = {name: PooledSignature() for name in [*self._masked, *self._mined]}
        self._targets, self._clutter = PatchProducts(), PatchProducts()

    def add(
        self, white: Embedding, covered: Float[Tensor, "place image"] | None, rank: Float[Tensor, " image"]
    ) -> None:
        """Add a batch of whitened anomalous images.

        Args:
            white: their embeddings.
            covered: the part of each patch that a mask covers, where a signature is masked.
            rank: each image's place in the order in which detectors of few images are given them.
        """
        length = energy(white)
        if self._masked:
            assert covered is not None
            weights = torch.stack([covered * _given(rank, few) for few in self._masked.values()])
            sums = covered_sums(white, length, weights)
            for name, total, weight in zip(self._masked, sums, weights, strict=True):
                self._sums[name].add(total, weight.sum().double())
        if self._mined:
            patches = mined_patches(white, length, max(count for count, _ in self._mined.values()))
            for name, (count, few) in self._mined.items():
                given = _given(rank, few)
                self._sums[name].add(
                    (patches[:count] * given[:, None]).sum((0, 1)), count * given.sum().double()
                )
            if self._families & {"refined", "subspace"}:
                self._targets.add(patches[:DEFAULT_PATCHES])

    def add_clutter(self, white: Embedding) -> None:
        """Add a batch of whitened normal images."""
        self._clutter.add(mined_patches(white, energy(white), DEFAULT_PATCHES))

    def all_reduce_clutter(self) -> None:
        """Make this the clutter of all ranks' normal images together (``torch.distributed``)."""
        if self.contrasts:
            self._clutter.all_reduce()

    def signatures(self) -> dict[str, Float[Tensor, "feature direction"]]:
        """Directions by :attr:`padim_ace.experiment.detectors.Detector.pool`, in float64."""
        found = {name: pooled.mean().unsqueeze(1) for name, pooled in self._sums.items()}
        if "refined" in self._families:
            found["refined"] = refined(found[_DEFAULT][:, 0], self._targets.mean()).unsqueeze(1)
        if "contrast" in self._families:
            found["contrast"] = contrast(found[_DEFAULT][:, 0], self._clutter.mean()).unsqueeze(1)
        if "subspace" in self._families:
            found["subspace"] = target_subspace(self._targets.mean(), self._clutter.mean(), self._dimensions)
        return found


_DEFAULT = f"mined:{DEFAULT_PATCHES}"


def _given(rank: Tensor, few: int | None) -> Tensor:
    """1 for the images that a detector of ``few`` images is given, all if None, else 0."""
    return torch.ones_like(rank) if few is None else (rank < few).to(rank.dtype)
