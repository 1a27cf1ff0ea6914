import numpy as np
import pytest
from scipy import stats

from padim_ace.experiment import intervals
from padim_ace.experiment.intervals import half_width


def test_an_interval_by_hand():
    # 1, 3, 5, 3: variance 8/3, of the mean 8/3 (1/4 + 1/8) = 1, and t(3) at 97.5 % is 3.182446
    assert half_width(0.95, (np.std([1, 3, 5, 3], ddof=1), 4)) == pytest.approx(3.182446, rel=1e-6)
    # beside it three runs with a spread of 2: variance 4 (1/3 + 1/8) = 11/6, so 17/6 with Welch's freedom
    freedom = (17 / 6) ** 2 / ((11 / 6) ** 2 / 2 + 1 / 3)
    expected = stats.t.ppf(0.95, freedom) * (17 / 6) ** 0.5
    assert half_width(0.9, (2, 3), ((8 / 3) ** 0.5, 4)) == pytest.approx(expected)


def test_without_overlap_it_is_students_and_welchs(monkeypatch):
    monkeypatch.setattr(intervals, "TEST_PER_TRAIN", 0)
    ours, theirs = np.array([90.0, 92, 97, 80, 81]), np.array([70.0, 75, 71])
    one, other = (ours.std(ddof=1), 5), (theirs.std(ddof=1), 3)
    found = stats.ttest_1samp(ours, 0).confidence_interval(0.95)
    assert half_width(0.95, one) == pytest.approx((found.high - found.low) / 2)
    found = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.9)
    assert half_width(0.9, one, other) == pytest.approx((found.high - found.low) / 2)


def test_of_one_run_or_a_missing_spread_there_is_no_interval_and_without_spread_it_has_no_width():
    assert np.isnan([half_width(0.9, *means) for means in ([(1, 1)], [(1, 3), (0, 0)], [(np.nan, 9)])]).all()
    assert half_width(0.9, (0, 3), (0.0, 10)) == 0
    assert half_width(0.9, (0, 3), (1, 10)) == pytest.approx(half_width(0.9, (1, 10)))


def test_of_overlapping_splits_it_covers_the_truth_and_the_plain_interval_does_not():
    """The squared error of a training mean: 600 collections of 100 numbers, each split ten times."""
    rng = np.random.default_rng(0)
    data = np.repeat(rng.normal(size=(600, 1, 100)), 10, axis=1)
    split = rng.permuted(data, axis=2)
    errors = ((split[..., 80:90] - split[..., :80].mean(2, keepdims=True)) ** 2).mean(2)
    off = np.abs(errors.mean(1) - (1 + 1 / 80))  # the expected error on a number that was never seen
    stds = errors.std(1, ddof=1)
    plain = (off < stats.t.ppf(0.975, 9) * stds / 10**0.5).mean()
    corrected = (off < [half_width(0.95, (std, 10)) for std in stds]).mean()
    assert plain < 0.87 and 0.92 < corrected < 0.98
