import numpy as np
import pandas as pd
import pytest
from fakes.scores import rows
from scipy import stats

from padim_ace.detect.detector import PADIM, Detector
from padim_ace.report.summary import gain, number_text, select, spread_text, summarise

VALUES = pd.Series([90.0, 92.0, 97.0, 80.0, 81.0])


def corrected(values):
    """The interval as scikit-learn's example on comparing models computes it, for splits of 80 and 10 %."""
    std = np.sqrt(np.var(values, ddof=1) * (1 / len(values) + 10 / 80))
    return stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=std)


def test_mean_spread_and_corrected_interval():
    found = summarise(VALUES)
    low, high = corrected(VALUES)
    assert found.mean == VALUES.mean() and found.std == pytest.approx(np.std(VALUES, ddof=1))
    assert (found.mean - found.half, found.mean + found.half) == (pytest.approx(low), pytest.approx(high))
    assert found.seeds == 5


def test_above_and_below_are_by_more_than_the_corrected_interval():
    near = pd.Series([0.0, 1.0, 2.0])  # Student's interval is ±2.48, the corrected one ±2.91
    for shift, above in ((1.8, False), (2.0, True)):
        found, mirrored = summarise(near + shift), summarise(-near - shift)
        assert (found.above, found.below) == (above, False) == (mirrored.below, mirrored.above)
    assert not (summarise(near[:1]).above or summarise(near[:1]).below)


def test_one_seed_has_no_spread_and_none_has_no_mean():
    one, none = summarise(VALUES[:1]), summarise(VALUES[:0])
    assert one.mean == 90 and np.isnan([one.std, one.half]).all() and one.seeds == 1
    assert np.isnan(none[:3]).all() and none.seeds == 0


def test_a_gain_is_paired_over_the_seeds_of_both():
    theirs = VALUES - [1, 2, 3, 4, 5]
    found = gain(VALUES, theirs.iloc[::-1])
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx(corrected([1, 2, 3, 4, 5]))
    assert found.above and not found.below  # 3 ± 2.5
    assert gain(VALUES, theirs[:2]).mean == 1.5 and gain(VALUES, theirs[:2]).seeds == 2


@pytest.mark.parametrize(
    "changed",
    [{"metric": "ap"}, {"level": "pixel"}, {"dataset": "mstar"}, {"backbone": "other"}]
    + [{"covariance": "diagonal"}, {"background": "shared"}, {"signature": "masked"}]
    + [{"convention": "equation"}, {"detector": "glrt"}, {"channels": "sar"}, {"smoothing": "2"}],
)
def test_a_number_never_stands_under_another_name(changed):
    at = {"dataset": "ssdd", "backbone": "resnet18", "level": "image", "metric": "auroc"}
    where = at | Detector().row()
    assert select(rows(Detector(), [0.6, 0.7]), **where).to_dict() == pytest.approx({0: 60, 1: 70})
    assert select(rows(Detector(), [0.6], **changed), **where).empty


def test_words_that_fit_two_detectors_are_refused():
    with pytest.raises(ValueError, match="duplicate"):
        select(pd.concat([rows(Detector(), [0.6]), rows(PADIM, [0.7])]), dataset="ssdd")


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(-1.5, ".1f", "−1.5"), (-0.001, "+.2f", "0.00"), (2, "+.0f", "+2"), (3, "d", "3"), (np.nan, ".1f", "–")],
)
def test_numbers_have_a_true_minus_and_a_zero_has_no_sign(value, form, text):
    assert number_text(value, form) == text


def test_a_spread_that_is_missing_is_left_out():
    assert spread_text(-1, 0.25, "+.1f") == "−1.0 ± 0.2"
    assert spread_text(1, np.nan) == "1.00" and spread_text(np.nan, 1) == "–"
