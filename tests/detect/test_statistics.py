"""The statistics on a background with one place: against naive oracles, and by the invariances of ACE."""

import numpy as np
import oracles
import pytest
import spectral
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_ace.detect import statistics
from padim_ace.detect.background import Moments, fit_background
from padim_ace.detect.detector import Detector
from padim_ace.detect.inner_products import Full, Isotropic, Shape, Weighted, inner_product, mean_variance
from padim_ace.detect.pyramid import column_energy
from padim_ace.detect.statistics import ace, glrt, mahalanobis, patch_scores
from padim_ace.paper.published_code import WrongWay

D = 6


def problem(seed, images=50):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(D, D))
    normal = generator.normal(size=(images, D)) @ mixing + generator.normal(size=D)
    return normal, generator.normal(size=(8, D)) @ mixing, generator.normal(size=D)


def background_of(normal, regularisation=0.01):
    moments = Moments()
    moments.update([torch.tensor(normal[None])])
    return fit_background(moments, regularisation=regularisation, dtype=torch.float64)


def score(product, background, x, s):
    group = product.prepare([torch.tensor(s)[None, None]])
    energy, (projection,) = product.measure(background.centre([torch.tensor(x)[None]]), [group])
    return ace(projection[..., 0], energy, group.energy[:, :1])[0].numpy()


SHAPE = Shape((1,), (D,))


def products(background, cov):
    """Inner products and the covariance that an oracle would use for each."""
    precision = np.linalg.inv(cov)
    return {
        "full": (inner_product(background, "full", SHAPE), cov),
        "diagonal": (inner_product(background, "diagonal", SHAPE), np.diag(np.diag(cov))),
        "isotropic": (inner_product(background, "isotropic", SHAPE), np.eye(D)),
        "D1": (WrongWay(background.covariance, SHAPE), precision),
        "D1+D2": (Weighted(1 / column_energy(background.whitening, 1), SHAPE), np.diag(np.diag(precision))),
    }


@pytest.mark.parametrize("name", ["full", "diagonal", "isotropic", "D1", "D1+D2"])
def test_ace_against_the_oracle(name):
    normal, x, s = problem(1)
    background = background_of(normal)
    mean, cov = normal.mean(0), np.cov(normal.T) + 0.01 * np.eye(D)
    product, covariance = products(background, cov)[name]
    expected = [oracles.ace(row, s, mean, covariance) for row in x]
    np.testing.assert_allclose(score(product, background, x, s), expected)


def test_published_whitening_is_the_wrong_way_round():
    normal, x, s = problem(2)
    background = background_of(normal)
    mean, cov = normal.mean(0), np.cov(normal.T) + 0.01 * np.eye(D)
    expected = [oracles.published_ace(row, s, mean, cov) for row in x]
    np.testing.assert_allclose(score(WrongWay(background.covariance, SHAPE), background, x, s), expected)
    right = score(Full(background.whitening, SHAPE), background, x, s)
    assert np.abs(right - expected).max() > 0.1


def test_mahalanobis_and_kellys_statistic_against_the_oracle():
    normal, x, s = problem(3)
    background = background_of(normal)
    mean, cov = normal.mean(0), np.cov(normal.T) + 0.01 * np.eye(D)
    product = Full(background.whitening, SHAPE)
    group = product.prepare([torch.tensor(s)[None, None]])
    energy, (projection,) = product.measure(background.centre([torch.tensor(x)[None]]), [group])
    np.testing.assert_allclose(mahalanobis(energy)[0], [oracles.mahalanobis(r, mean, cov) for r in x])
    precision = np.linalg.inv(cov)
    length = s @ precision @ s
    expected = [
        s @ precision @ (r - mean) / np.sqrt(length * (50 + (r - mean) @ precision @ (r - mean))) for r in x
    ]
    np.testing.assert_allclose(glrt(projection[..., 0], energy, group.energy[:, :1], 50)[0], expected)


def measured(background, x, white):
    """Projections on the signature's directions, given white, and the energy."""
    group = Full(background.whitening, SHAPE).prepare_whitened([white.T[None]])
    energy, (projections,) = Full(background.whitening, SHAPE).measure(
        background.centre([torch.tensor(x)[None]]), [group]
    )
    return projections, energy, group.energy[:, :1]


def test_the_statistics_against_spectral_python():
    """It takes targets that are not centred yet, squares ACE and RX, and divides the matched filter by S."""
    normal, x, _ = problem(4)
    background = background_of(normal, regularisation=0)
    stats = spectral.GaussianStats(normal.mean(0), np.cov(normal.T))
    target = np.random.default_rng(5).normal(size=D)
    white = background.whitening.own[0][0] @ torch.tensor(target - stats.mean)
    projections, energy, length = measured(background, x, white[:, None])
    measures = projections[..., 0], energy, length, 50
    scores, filtered = (patch_scores(Detector(name), *measures)[0] for name in ("ace", "linear"))
    matched = spectral.matched_filter(x[None], target, stats)
    np.testing.assert_allclose(filtered / length[0].sqrt(), matched)
    np.testing.assert_allclose(scores.sign(), np.sign(matched))
    np.testing.assert_allclose(mahalanobis(energy)[0] ** 2, spectral.rx(x[None], background=stats)[0])
    np.testing.assert_allclose(scores**2, spectral.ace(x[None], target, stats)[0])


def test_vanishing_embeddings_and_signatures_score_zero():
    zero = torch.zeros(3)
    assert torch.equal(ace(zero, zero, torch.ones(3)), zero)
    assert torch.equal(ace(zero, torch.ones(3), zero), zero)
    assert torch.equal(glrt(zero, zero, zero, 9), zero)
    assert torch.equal(mahalanobis(torch.tensor([-1e-9])), torch.zeros(1))


seeds = st.integers(0, 10_000)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_ace_is_bounded_and_blind_to_the_lengths_of_its_arguments(seed, scale):
    normal, x, s = problem(seed)
    background = background_of(normal)
    mean = normal.mean(0)
    product = Full(background.whitening, SHAPE)
    scores = score(product, background, x, s)
    assert (np.abs(scores) <= 1).all()
    np.testing.assert_allclose(score(product, background, mean + scale * (x - mean), s), scores, atol=1e-8)
    np.testing.assert_allclose(score(product, background, x, scale * s), scores, atol=1e-8)
    np.testing.assert_allclose(score(product, background, x, -s), -scores, atol=1e-12)
    np.testing.assert_allclose(score(product, background, mean + s[None], s), 1)


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_full_ace_is_invariant_to_linear_maps_and_diagonal_ace_to_scaling(seed):
    """Without the regularisation, which prefers a scale."""
    normal, x, s = problem(seed)
    generator = np.random.default_rng(seed + 1)
    linear = generator.normal(size=(D, D)) + 3 * np.eye(D)
    scaling = np.diag(generator.uniform(0.1, 10, D))
    plain = background_of(normal, 0)
    for name, matrix in (("full", linear), ("diagonal", scaling)):
        moved = background_of(normal @ matrix.T, 0)
        before = score(inner_product(plain, name, SHAPE), plain, x, s)
        after = score(inner_product(moved, name, SHAPE), moved, x @ matrix.T, matrix @ s)
        np.testing.assert_allclose(after, before, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_the_four_aggregations_of_table_4_are_one_detector(seed):
    """The mean of the diagonal, of all entries, the trace and the determinant's root, by numpy."""
    normal, x, s = problem(seed)
    background = background_of(normal)
    cov = np.cov(normal.T) + 0.01 * np.eye(D)
    aggregated = [np.diag(cov).mean(), abs(cov.mean()), np.trace(cov), np.linalg.det(cov) ** (1 / D)]
    np.testing.assert_allclose(mean_variance(background, 1), aggregated[:1])
    scores = [score(Isotropic(torch.tensor([c]), SHAPE), background, x, s) for c in aggregated]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=1e-12)


def test_the_tolerant_statistic_lies_between_kellys_and_the_distance(monkeypatch):
    projection, energy = torch.randn(99), 4 * torch.rand(99)
    length = projection.square() / energy * (1 + torch.rand(99))
    measures = projection, energy, length, 30
    found = statistics.tolerant(*measures)
    assert (found >= 0).all() and (found < 1).all()
    kelly = glrt(*measures).clamp_min(0)
    torch.testing.assert_close(found**2, 0.95 * kelly**2 + 0.05 * energy / (30 + energy))
    monkeypatch.setattr(statistics, "TOLERANCE", 0.0)
    torch.testing.assert_close(statistics.tolerant(*measures), kelly)
    monkeypatch.setattr(statistics, "TOLERANCE", 1.0)
    assert torch.equal(statistics.tolerant(*measures).argsort(), mahalanobis(energy).argsort())


@given(st.floats(-3, 3), st.floats(0.1, 9), st.floats(0.1, 9))
def test_kellys_statistic_lies_between_the_matched_filter_and_ace(cosine, energy, length):
    """With few samples it is ACE; with many it is the matched filter over their square root."""
    projection = torch.tensor(np.tanh(cosine) * np.sqrt(energy * length))
    e, s = torch.tensor(energy), torch.tensor(length)
    few, many = glrt(projection, e, s, 0), glrt(projection, e, s, 10**9)
    torch.testing.assert_close(few, ace(projection, e, s))
    torch.testing.assert_close(many * 10**4.5, projection / s.sqrt(), rtol=1e-6, atol=1e-9)
    assert abs(float(glrt(projection, e, s, 5))) < 1
