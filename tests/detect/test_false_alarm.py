"""The laws of the statistics: against simulated backgrounds that this package fits and scores, quadratures
of SciPy, and numbers from tables."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from padim_ace.detect.background import Moments, fit_background
from padim_ace.detect.detector import PADIM, Detector
from padim_ace.detect.false_alarm import false_alarm_rate, false_alarm_threshold
from padim_ace.detect.inner_products import Full, Shape
from padim_ace.detect.statistics import patch_scores

D, N, DRAWS = 10, 30, 200_000
RATES = (1e-1, 1e-2, 1e-3)


@pytest.fixture(scope="module")
def scores():
    """Of one embedding of the background at each of many places, whose own backgrounds have N images.

    The covariance is the identity: the scores' laws know of none. A pooled signature's direction is drawn
    anew at each place.
    """
    generator = torch.Generator().manual_seed(0)
    found = {}
    for _ in range(10):
        places = DRAWS // 10
        normal = torch.randn(places, N + 1, D, generator=generator, dtype=torch.float64)
        moments = Moments()
        moments.update([normal[:, :N]])
        background = fit_background(moments, regularisation=0, dtype=torch.float64)
        full = Full(background.whitening, Shape((places,), (D,)))
        centred = background.centre([normal[:, N:]])
        fixed = full.whiten([torch.eye(1, D, dtype=torch.float64).expand(places, 1, D)])[0]
        drawn = torch.randn(places, 1, D, generator=generator, dtype=torch.float64)
        for pooled, white in ((False, fixed), (True, drawn)):
            group = full.prepare_whitened([white])
            energy, (projection,) = full.measure(centred, [group])
            for statistic in ("ace", "glrt"):
                score = patch_scores(Detector(statistic), projection[..., 0], energy, group.energy, N)
                found.setdefault((statistic, pooled), []).append(score)
        found.setdefault(("padim", False), []).append(patch_scores(PADIM, None, energy, None, N))
    return {key: torch.cat(parts).flatten().numpy() for key, parts in found.items()}


LAWS = [("padim", False)] + [(name, pooled) for name in ("ace", "glrt") for pooled in (False, True)]


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("rate", RATES)
def test_a_threshold_is_passed_as_often_as_it_says(scores, law, rate):
    """Within four standard deviations of a binomial count."""
    threshold = false_alarm_threshold(law[0], rate, D, N, law[1])
    passed = (scores[law] > threshold).sum()
    assert abs(passed - DRAWS * rate) < 4 * np.sqrt(DRAWS * rate * (1 - rate))


@pytest.mark.parametrize(("samples", "threshold"), [(150, 0.497), (400, 0.346), (math.inf, 0.304)])
def test_known_thresholds_of_ace(samples, threshold):
    assert false_alarm_threshold("ace", 1e-3, 100, samples) == pytest.approx(threshold, abs=5e-4)


@pytest.mark.parametrize("threshold", [-0.4, 0.1, 0.3, 0.6])
@pytest.mark.parametrize(("d", "n"), [(10, 30), (100, 150), (100, 2500)])
def test_rates_against_student_t_hotelling_and_an_adaptive_quadrature(threshold, d, n):
    """By other forms of the same laws; the rates go down to 1e-30."""
    m = n - d
    beta = stats.beta((m + 1) / 2, (d - 1) / 2)

    def given(b):
        return stats.t.sf(threshold * np.sqrt(m * (1 - b) / (1 - threshold**2)), m) * beta.pdf(b)

    points = np.clip(beta.mean() + beta.std() * np.array([-12, -4, 0, 4, 12]), 0, 1)
    pieces = [integrate.quad(given, a, b, epsabs=0)[0] for a, b in zip(points[:-1], points[1:], strict=True)]
    assert false_alarm_rate("ace", threshold, d, n) == pytest.approx(sum(pieces), rel=1e-6)
    t = threshold * np.sqrt(d - 1) / np.sqrt(1 - threshold**2)
    assert false_alarm_rate("ace", threshold, d, math.inf) == pytest.approx(stats.t.sf(t, d - 1))
    energy = 4 * d * abs(threshold)
    hotelling = stats.f.sf(energy * n * m / (d * (n**2 - 1)), d, m)
    assert false_alarm_rate("padim", np.sqrt(energy), d, n) == pytest.approx(hotelling)
    chi = stats.chi2.sf(energy, d)
    assert false_alarm_rate("padim", np.sqrt(energy), d, math.inf) == pytest.approx(chi)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("rate", [0.9, 0.5, 1e-2, 1e-6])
def test_a_threshold_has_its_rate_and_many_samples_know_the_covariance(law, rate):
    statistic, pooled = law
    for samples in (106, 150, 2_000_000):
        threshold = false_alarm_threshold(statistic, rate, 100, samples, pooled)
        found = false_alarm_rate(statistic, np.array([threshold, -2, 1e6]), 100, samples, pooled)
        np.testing.assert_allclose(found, [rate, 1, 0], rtol=1e-6, atol=1e-20)
    if statistic != "glrt":
        known = false_alarm_threshold(statistic, rate, 100, math.inf, pooled)
        assert threshold == pytest.approx(known, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tolerant", 0.1, 10, 30), "expected one of padim, ace, glrt, found 'tolerant'"),
        (("ace", 0.1, 30, 30), "features < samples"),
        (("ace", 0.1, 1, 30), "1 < features"),
        (("glrt", 0.1, 10, math.inf), "samples finite for glrt"),
    ],
)
def test_what_has_no_law_is_refused(arguments, message):
    for function in (false_alarm_rate, false_alarm_threshold):
        with pytest.raises(ValueError, match=message):
            function(*arguments)
    with pytest.raises(ValueError, match="between 0 and 1"):
        false_alarm_threshold("ace", 0, 10, 30)
