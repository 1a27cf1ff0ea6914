"""Target signatures: what an anomalous patch looks like, measured from the background.

- :class:`MeanSignature`: the mean embedding of anomalous images at every place (the paper's).
- :class:`PooledSignature`: one direction for all places, the weighted mean of whitened anomalous patches,
  each brought to
  unit length first. The weights say which patches are targets: :func:`padim_ace.maps.patch_weights` of masks,
  or :func:`mined_weights` where only image labels are known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.pyramid import Embedding


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
    """Weighted mean of whitened patches of unit length, over images and places, streamed."""

    def __init__(self) -> None:
        self.weight: float | Tensor = 0.0
        self._total: list[Tensor] = []

    def update(
        self, white: Embedding, energy: Float[Tensor, "place image"], weights: Float[Tensor, "place image"]
    ) -> None:
        """Add a batch: whitened embeddings, their squared lengths the weights of patches."""
        self.add([stage[0] for stage in pooled_sums(white, energy, weights[None])], weights.sum().double())

    def add(self, sums: list[Float[Tensor, " _feature"]], weight: Tensor) -> None:
        """Add what :func:`pooled_sums` found for this signature, and the sum of its weights."""
        self._total = [t + s for t, s in zip(self._total, sums, strict=True)] if self._total else sums
        self.weight = self.weight + weight

    def mean(self) -> Embedding:
        """The whitened signature: stages ``[1, 1, feature]``, one place for all.

        Raises:
            ValueError: if no patch with a weight was added.
        """
        _require(float(self.weight))
        return [(total / self.weight).float().view(1, 1, -1) for total in self._total]


def pooled_sums(
    white: Embedding,
    energy: Float[Tensor, "place image"],
    weights: Float[Tensor, "signature place image"],
) -> list[Float[Tensor, "signature _feature"]]:
    """``Σ w y / ‖y‖`` over places and images for several sets of weights, at each stage, in float64.

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
        sums.append((of_place.view(len(weights), -1) @ stage.reshape(-1, features)).double())
    return sums


def mined_weights(
    scores: Float[Tensor, "place image"], counts: Sequence[int]
) -> dict[int, Float[Tensor, "place image"]]:
    """For each count, 1 at so many patches of each image with the highest scores, else 0.

    Raises:
        ValueError: if an image has fewer patches.
    """
    if not 1 <= min(counts) <= max(counts) <= scores.shape[0]:
        raise ValueError(f"mined patches: expected 1 to {scores.shape[0]}, found {sorted(counts)}")
    ranked = scores.T.topk(max(counts)).indices.T
    return {count: torch.zeros_like(scores).scatter_(0, ranked[:count], 1.0) for count in counts}


def _require(weight: float) -> None:
    if not weight > 0:
        raise ValueError(
            "target signature: expected anomalous images with targets, found none; add anomalous images"
        )
