"""All the pooled signatures that one pass gathers for many detectors, in the space that one background
whitens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.detector import Detector
from padim_ace.detect.pyramid import Embedding, energy
from padim_ace.detect.registry import SIGNATURES
from padim_ace.detect.signature import PatchMoments, covered_sums, directions, mined_patches

CLUTTER_PATCHES = 16
"""Patches of each normal image that are taken for clutter, the farthest from the background."""


class Pool:
    """The pooled signatures of one seed's detectors that share a background."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = [d for d in detectors if d.pooled]
        self._targets = {_gathered(d): PatchMoments() for d in self._detectors}
        self._clutter = PatchMoments()

    @property
    def needed(self) -> bool:
        """Whether there are any."""
        return bool(self._detectors)

    @property
    def contrasts(self) -> bool:
        """Whether :meth:`add_clutter` is to be given normal images."""
        return any(SIGNATURES[d.signature].clutter for d in self._detectors)

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
        masked = [key for key in self._targets if key[0]]
        if masked:
            assert covered is not None
            weights = torch.stack([covered * _given(rank, few) for _, _, few in masked])
            for key, total, weight in zip(masked, covered_sums(white, length, weights), weights, strict=True):
                self._targets[key].add_sum(total, weight.double().sum())
        mined = [key for key in self._targets if not key[0]]
        if mined:
            patches = mined_patches(white, length, max(count for _, count, _ in mined))
            for key in mined:
                self._targets[key].add(patches[: key[1]], _given(rank, key[2]))

    def add_clutter(self, white: Embedding) -> None:
        """Add a batch of whitened normal images."""
        self._clutter.add(mined_patches(white, energy(white), CLUTTER_PATCHES))

    def all_reduce_clutter(self) -> None:
        """Make this the clutter of all ranks' normal images together (``torch.distributed``)."""
        if self.contrasts:
            self._clutter.all_reduce()

    def signatures(self) -> dict[tuple, Float[Tensor, "feature direction"]]:
        """Directions by :attr:`padim_ace.detect.detector.Detector.pool`, in float64."""
        most = max((d.spanned for d in self._detectors), default=1)
        return {
            d.pool: directions(d.signature, self._targets[_gathered(d)], self._clutter, most)
            for d in self._detectors
        }


def _gathered(detector: Detector) -> tuple[bool, int, int | None]:
    """Which patches a signature is made of: under masks or mined, how many, of how many images."""
    masked = SIGNATURES[detector.signature].supervision == "masks"
    return masked, 0 if masked else detector.patches, detector.images


def _given(rank: Tensor, few: int | None) -> Tensor:
    """1 for the images that a detector of ``few`` images is given, all if None, else 0."""
    return torch.ones_like(rank) if few is None else (rank < few).to(rank.dtype)
