r"""The detection statistics, each beside its equation.

Background at a place: mean :math:`\mu`, covariance :math:`\Sigma` of normal embeddings. Embedding :math:`x`,
target signature :math:`s` (measured from the same mean). Every statistic is a function of three inner
products in the space that :math:`\Sigma^{-1}` whitens:

- energy :math:`E = (x-\mu)^\top \Sigma^{-1} (x-\mu)`,
- projection :math:`A = s^\top \Sigma^{-1} (x-\mu)`,
- signature energy :math:`S = s^\top \Sigma^{-1} s`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def mahalanobis(energy: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""PaDiM's score, :math:`\sqrt{E}`: the distance from the background, unbounded."""
    return energy.clamp_min(0).sqrt()


def ace(
    projection: Float[Tensor, "*shape"],
    energy: Float[Tensor, "*shape"],
    signature_energy: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    r"""Adaptive cosine estimator, signed root form: :math:`A / \sqrt{S E}`, in [-1, 1].

    The cosine between the embedding and the signature, both whitened. Zero where either vanishes: an
    embedding equal to the background's mean points nowhere.
    """
    norm = (signature_energy * energy).clamp_min(0).sqrt()
    return torch.where(norm > 0, projection / norm.clamp_min(torch.finfo(norm.dtype).tiny), 0).clamp(-1, 1)


def matched_filter(
    projection: Float[Tensor, "*shape"], signature_energy: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    r"""Adaptive matched filter, :math:`A / \sqrt{S}`: ACE without the embedding's own length, unbounded."""
    norm = signature_energy.clamp_min(0).sqrt()
    return torch.where(norm > 0, projection / norm.clamp_min(torch.finfo(norm.dtype).tiny), 0)


def glrt(
    projection: Float[Tensor, "*shape"],
    energy: Float[Tensor, "*shape"],
    signature_energy: Float[Tensor, "*#shape"],
    samples: float | Tensor,
) -> Float[Tensor, "*shape"]:
    r"""Kelly's generalised likelihood ratio, signed root form: :math:`A / \sqrt{S (N + E)}`, in (-1, 1).

    N is the number of ``samples`` that the covariance was estimated from. An embedding near the background's
    mean (E far below N) is scored as by the matched filter, one far from it (E far above N) as by ACE: close
    to the mean a direction is mostly noise, and ACE believes it.
    """
    norm = (signature_energy * (samples + energy.clamp_min(0))).clamp_min(0).sqrt()
    return torch.where(norm > 0, projection / norm.clamp_min(torch.finfo(norm.dtype).tiny), 0)
