r"""The laws of the statistics where there is only background: how often chance passes a threshold.

An embedding, and the N normal ones that its background was estimated from (the mean, and the covariance with
N − 1), are independent draws of one Gaussian in d dimensions. E, A and S are those of
:mod:`padim_ace.detect.statistics`; m = N − d, c = N − 1/N. For a signature that is fixed beforehand there are
two independent variables

.. math:: u \sim \tfrac{1}{m} F_{1, m}, \qquad \beta \sim \mathrm{Beta}(\tfrac{m + 1}{2}, \tfrac{d - 1}{2})

such that :math:`1 + E / c = (1 + u) / \beta` and :math:`A^2 / (S (c + E)) = u / (1 + u)`. So a score
exceeds η where

.. math:: u > \frac{\eta^2}{1 - \eta^2} k, \qquad k = 1 - \beta \text{ for ACE}, \quad
          k = 1 + \frac{\beta}{N^2 - 1} \text{ for the GLRT (which has } N \text{ in place of } c),

and the rate is the mean of that chance over β, and half of it, for the score has a sign.

- The distance from the mean is Hotelling's: :math:`b = E / (c + E) \sim \mathrm{Beta}(d / 2, m / 2)`, and
  :math:`E \sim \chi^2_d` where the covariance is known (N infinite).
- ACE's square is :math:`\mathrm{Beta}(1 / 2, (d - 1) / 2)` where the covariance is known.
- The same holds for a *pooled* signature. Its direction is fixed in the space that the estimated covariance
  whitens; there an embedding points anywhere, however long it is. The GLRT's square is ACE's times
  :math:`E / (N + E)`: the rate is a mean over b. That is exact on the average over directions. The rate of a
  single one is lower where it lies along the features that a Cholesky factor takes first, and higher, up to
  that of a fixed signature, along the last: little where N is many times d, nothing for a shared background.

Sources: Kelly (1986) for the GLRT; Kraut, Scharf and McWhorter (2001) for ACE; Frontera-Pons, Pascal and
Ovarlez (2014, arXiv:1404.2977) for the estimated mean.

No detector follows them exactly: the 0.01 that is added to each variance changes the rate, a network's
features are not Gaussian, neighbouring patches are correlated (a shared background counts each as a sample),
and maps are smoothed. The threshold to use is a quantile over held-out normal images; the law is the check
beside it.
"""

import math

import numpy as np
from scipy import optimize, special

from padim_ace.detect.registry import expect_one_of

NODES, LEFT_OUT = 128, 1e-18  #: Of a quadrature over a beta variable: nodes, and the chance beyond either end


def false_alarm_rate(
    statistic: str, threshold: float | np.ndarray, features: int, samples: float, pooled: bool = False
) -> np.ndarray:
    """The chance that a patch of background scores above each threshold.

    Args:
        statistic: ``padim``, ``ace`` or ``glrt``; centred, on a full covariance.
        threshold: of the patch score.
        features: d, of an embedding.
        samples: N, embeddings behind each covariance; infinite where it is known.
        pooled: whether the signature is fixed in the whitened space, not in that of the embeddings.

    Raises:
        ValueError: for an unknown statistic, or numbers for which there is no law.
    """
    expect_one_of("statistic", statistic, ("padim", "ace", "glrt"))
    d, m, known = features, samples - features, math.isinf(samples)
    if m < 1 or d < 2 or (known and statistic == "glrt"):
        expected = "1 < features < samples, samples finite for glrt"
        raise ValueError(f"false alarms: expected {expected}, found {d}, {samples} for {statistic}")
    score = np.asarray(threshold, dtype=float)
    square, scale = score[..., None] ** 2, samples - 1 / samples
    if statistic == "padim":
        tail = special.gammaincc(d / 2, square / 2) if known else _tail(d, m, square / (scale + square))
        return np.where(score > 0, tail[..., 0], 1.0)
    square = np.minimum(square, 1)
    if statistic == "ace" and (known or pooled):
        tail = _tail(1, d - 1, square)[..., 0]
    elif pooled:
        b, weight = _quadrature(d, m)
        tail = _tail(1, d - 1, np.minimum(square * (1 + samples * (1 - b) / (scale * b)), 1)) @ weight
    else:
        beta, weight = _quadrature(m + 1, d - 1)
        k = 1 - beta if statistic == "ace" else 1 + beta / (samples**2 - 1)
        tail = _tail(1, m, square * k / (1 - square + square * k)) @ weight
    return np.where(score > 0, tail / 2, 1 - tail / 2)


def false_alarm_threshold(
    statistic: str, rate: float, features: int, samples: float, pooled: bool = False
) -> float:
    """The score that background exceeds with the chance ``rate``: the inverse of :func:`false_alarm_rate`."""
    if not 0 < rate < 1:
        raise ValueError(f"false alarms: expected a rate between 0 and 1, found {rate}")

    def excess(score: float) -> float:
        return float(false_alarm_rate(statistic, score, features, samples, pooled)) - rate

    high = 1.0
    while excess(high) > 0:  # only Mahalanobis' distance passes 1
        high *= 2
    return optimize.brentq(excess, -1.0, high, xtol=1e-14)


def _tail(first: float, second: float, x: np.ndarray) -> np.ndarray:
    """The chance that Beta(first/2, second/2) exceeds x."""
    return special.betaincc(first / 2, second / 2, x)


def _quadrature(first: float, second: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the mean over β ~ Beta(first/2, second/2).

    Gauss-Legendre in the angle φ of β = sin² φ: there the density, sin^(first-1) φ cos^(second-1) φ, is
    smooth up to its ends.
    """
    halves = first / 2, second / 2
    ends = special.betaincinv(*halves, LEFT_OUT), special.betainccinv(*halves, LEFT_OUT)
    low, high = np.arcsin(np.sqrt(ends))
    node, weight = np.polynomial.legendre.leggauss(NODES)
    angle = (low + high + node * (high - low)) / 2
    density = (first - 1) * np.log(np.sin(angle)) + (second - 1) * np.log(np.cos(angle))
    weight = weight * np.exp(density - density.max())
    return np.sin(angle) ** 2, weight / weight.sum()
