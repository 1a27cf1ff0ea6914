r"""The detection statistics, each beside its equation.

Background at a place: mean :math:`\mu`, covariance :math:`\Sigma` of normal embeddings. Embedding :math:`x`,
target signature :math:`s` (measured from the same mean). Every statistic is a function of three inner
products in the space that :math:`\Sigma^{-1}` whitens:

- energy :math:`E = (x-\mu)^\top \Sigma^{-1} (x-\mu)`,
- projection :math:`A = s^\top \Sigma^{-1} (x-\mu)`,
- signature energy :math:`S = s^\top \Sigma^{-1} s`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.detector import Detector
from padim_ace.detect.pyramid import Energy

TOLERANCE = 0.05  #: The part of a target's energy that may lie in any direction (:func:`tolerant`)
Values = Float[Tensor, "*shape"]
Broadcast = Float[Tensor, "*#shape"]
Samples = float | Tensor


def mahalanobis(energy: Values) -> Values:
    r"""PaDiM's score, :math:`\sqrt{E}`: the distance from the background, unbounded."""
    return energy.clamp_min(0).sqrt()


def ace(projection: Values, energy: Values, signature_energy: Broadcast, samples: Samples = 0) -> Values:
    r"""Adaptive cosine estimator, signed root form: :math:`A / \sqrt{S E}`, in [-1, 1].

    The cosine between the embedding and the signature, both whitened. Zero where either vanishes: an
    embedding equal to the background's mean points nowhere. It does not depend on the number of ``samples``.
    """
    return _ratio(projection, signature_energy * energy).clamp(-1, 1)


def glrt(projection: Values, energy: Values, signature_energy: Broadcast, samples: Samples) -> Values:
    r"""Kelly's generalised likelihood ratio, signed root form: :math:`A / \sqrt{S (N + E)}`, in (-1, 1).

    N is the number of ``samples`` that the covariance was estimated from. An embedding near the background's
    mean (E far below N) is scored as by the matched filter :math:`A / \sqrt{S}`, one far from it (E far
    above N) as by ACE: close to the mean a direction is mostly noise, and ACE believes it.
    """
    return _ratio(projection, signature_energy * (samples + energy.clamp_min(0)))


def tolerant(projection: Values, energy: Values, signature_energy: Broadcast, samples: Samples) -> Values:
    r"""Kelly's statistic of a signature known up to an error, in [0, 1).

    :math:`\sqrt{((1-\rho) A_+^2 / S + \rho E) / (N + E)}`, with ρ = :data:`TOLERANCE`. If a target's
    whitened embedding is drawn around the signature's direction, with :math:`(1-\rho)\, \hat s \hat s^\top
    + \rho I` as its second moment up to scale, then this quadratic form of :math:`x - \mu` is what tells it
    from the background. With ρ = 0 it is Kelly's (without targets that are opposite to the signature), with
    ρ = 1 it ranks as PaDiM does. What is far from the background in a direction unlike the signature is not
    lost.
    """
    along = _ratio(projection, signature_energy).clamp_min(0).square()
    energy = energy.clamp_min(0)
    return (((1 - TOLERANCE) * along + TOLERANCE * energy) / (samples + energy)).sqrt()


def linear(projection: Values, energy: Values, signature_energy: Broadcast, samples: Samples) -> Values:
    r"""The matched filter, :math:`A / \sqrt{S}`: what a linear classifier of whitened patches ranks by."""
    return _ratio(projection, signature_energy)


def _ratio(projection: Tensor, squared: Tensor) -> Tensor:
    """``projection / √squared``, zero where that vanishes."""
    norm = squared.clamp_min(0).sqrt()
    return torch.where(norm > 0, projection / norm.clamp_min(torch.finfo(norm.dtype).tiny), 0)


def patch_scores(
    detector: Detector,
    projection: Energy | None,
    energy: Energy,
    signature_energy: Float[Tensor, "_place 1"] | None,
    samples: Samples,
) -> Energy:
    """A detector's scores; without a signature there is no projection, and no ``signature_energy``."""
    if projection is None or signature_energy is None:
        return mahalanobis(energy)
    return globals()[detector.statistic](projection, energy, signature_energy, samples)
