"""What the pooled signatures of many detectors are made of, gathered in one pass, in the space that one
background
whitens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.classes import class_signatures
from padim_ace.detect.detector import Detector
from padim_ace.detect.pyramid import Embedding, Energy, energy
from padim_ace.detect.registry import SIGNATURES
from padim_ace.detect.signature import Direction, candidates, covered_sum, learn, require_targets


class Pool:
    """The pooled signatures of one draw's detectors that share a background and channels."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.wanted = {d.pool for d in detectors if d.pooled}
        """The signatures, each by :attr:`padim_ace.detect.detector.Detector.pool`."""
        self.masked = any(SIGNATURES[name].supervision == "masks" for name, _ in self.wanted)
        """Whether masks are needed."""
        self.learns = any(SIGNATURES[name].supervision != "masks" for name, _ in self.wanted)
        """Whether :meth:`add_clutter` is to be given normal images."""
        self._targets: list[Tensor] = []
        self._order: list[Tensor] = []
        self._clutter: list[Tensor] = []
        self._covered: Tensor | float = 0.0
        self._weight: Tensor | float = 0.0

    def add(self, white: Embedding, covered: Energy | None, order: Float[Tensor, " image"]) -> None:
        """Add a batch of whitened anomalous images.

        Args:
            white: their embeddings.
            covered: the part of each patch that a mask covers, where a signature is masked.
            order: each image's place in the order in which detectors of few images are given them.
        """
        length = energy(white)
        if self.masked:
            assert covered is not None
            self._covered = self._covered + covered_sum(white, length, covered)
            self._weight = self._weight + covered.double().sum()
        if self.learns:
            self._targets.append(candidates(white, length))
            self._order.append(order)

    def add_clutter(self, white: Embedding) -> None:
        """Add a batch of whitened normal images."""
        self._clutter.append(candidates(white, energy(white)))

    def all_gather_clutter(self) -> None:
        """Make this the clutter of all ranks' normal images, in the order of the ranks
        (``torch.distributed``)."""
        if self.learns:
            every: list[Tensor | None] = [None] * dist.get_world_size()
            dist.all_gather_object(every, torch.cat(self._clutter).cpu())
            self._clutter = [part.to(self._clutter[0]) for part in every if part is not None]

    def signatures(self, samples: int) -> dict[tuple, Direction]:
        """Directions by :attr:`padim_ace.detect.detector.Detector.pool`, in float64.

        Raises:
            ValueError: if nothing was added that they could be made of.
        """
        found = {}
        for name, images in sorted(self.wanted, key=str):
            if SIGNATURES[name].supervision == "masks":
                require_targets(self._weight)
                assert isinstance(self._covered, Tensor)
                found[name, images] = self._covered / self._covered.norm()
                continue
            require_targets(len(self._targets))
            targets, order = torch.cat(self._targets), torch.cat(self._order)
            if images is not None:
                targets = targets[order < images]
            clutter = torch.cat(self._clutter) if self._clutter else targets[:0]
            found[name, images] = learn(name, targets, clutter, samples)
        return found

    def class_signatures(self, names: Sequence[str], samples: int) -> tuple[Tensor, Tensor]:
        """Signatures and offsets of the classes of the images that were added, whose ``names`` are these."""
        return class_signatures(torch.cat(self._targets), names, torch.cat(self._clutter), samples)
