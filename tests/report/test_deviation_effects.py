import numpy as np
import pandas as pd
import pytest

from padim_ace.experiment.results import COLUMNS
from padim_ace.report import deviation_effects as effects_of
from padim_ace.report import deviation_page as page


def _scores(values, **where):
    """Rows of scores.csv: image AUROC by seed, of PaDiM-ACE with full covariance but for ``where``."""
    plain = {"dataset": "ssdd", "backbone": "resnet18", "detector": "ace", "covariance": "full"}
    plain |= {"aggregation": "", "signature": "mean", "convention": "published", "level": "image"}
    rows = [plain | where | {"metric": "auroc", "seed": s, "value": v} for s, v in enumerate(values)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_an_effect_is_the_mean_of_the_differences_of_equal_seeds():
    scores = pd.concat(
        [
            _scores([0.5, 0.7, 0.1]),
            _scores([0.6, 0.9], convention="published-D3"),
            _scores([0.9, 0.8], convention="centred"),
            _scores([0.4, 0.5], convention="centred+D3"),
            _scores([0.0, 0.0], convention="published-D3", dataset="mstar"),
            _scores([0.0, 0.0], convention="published-D3", backbone="other"),
            _scores([0.0, 0.0], convention="published-D3", covariance="diagonal"),
        ]
    )
    found = effects_of.effects(scores, "ssdd")
    assert list(found["deviation"]) == ["D3", "D3"]
    corrected, introduced = found.iloc[0], found.iloc[1]
    assert corrected["direction"] == "corrected" and corrected["seeds"] == 2
    assert corrected["before"] == pytest.approx(60) and corrected["after"] == pytest.approx(75)
    assert corrected["effect"] == pytest.approx(15)
    assert corrected["std"] == pytest.approx(np.std([10, 20], ddof=1))
    assert introduced["direction"] == "introduced" and introduced["effect"] == pytest.approx(-40)


def test_the_diagonals_deviation_is_measured_on_the_diagonal():
    scores = pd.concat(
        [_scores([0.5]), _scores([0.9], convention="published-D2")]
        + [
            _scores([value], convention=convention, covariance="diagonal")
            for value, convention in ((0.5, "published"), (0.6, "published-D2"))
        ]
    )
    assert effects_of.effects(scores, "ssdd")["effect"].tolist() == pytest.approx([10])


def test_every_deviation_has_its_detector_among_those_scored():
    from padim_ace.experiment.detectors import DEVIATIONS, TABLES

    scored = {(d.covariance, d.convention) for d in [*TABLES, *DEVIATIONS]}
    for switch in effects_of.SWITCHES:
        for convention in (switch.before, switch.after):
            assert (effects_of.COVARIANCE[switch.deviation], convention) in scored


def test_aggregations_are_compared_within_a_setting_with_all_four():
    names = ("mean_diagonal", "mean_full", "determinant", "trace")
    parts = [
        _scores([0.5, value], covariance="isotropic", aggregation=name)
        for name, value in zip(names, (0.6, 0.6, 0.603, 0.599), strict=True)
    ]
    parts.append(_scores([0.1], covariance="isotropic", aggregation="trace", dataset="mstar"))
    found = effects_of.aggregation_spread(pd.concat(parts))
    assert found["dataset"].tolist() == ["ssdd"]
    assert found["compared"].item() == 2
    assert found["largest"].item() == pytest.approx(0.4)


def test_seed_spread_of_the_settings_that_were_run():
    found = effects_of.seed_spread(_scores([0.5, 0.6, 0.7]), "ssdd", "resnet18")
    assert found.iloc[0, :2].tolist() == ["PaDiM-ACE, published code", "image"] and len(found) == 1
    assert found.iloc[0, 2:].tolist() == pytest.approx([3, 60, 10, 50, 70])


PAPER = pd.DataFrame(
    [
        (1, "ssdd", "padim", "image", 68.97, 4.41),
        (1, "ssdd", "padim_ace", "image", 63.47, 4.57),
        (3, "ssdd", "padim", "image", 1.0, 1.0),
    ],
    columns=["table", "dataset", "model", "level", "mean", "std"],
)


def test_ways_of_removal_are_compared_on_the_seeds_of_both_and_only_with_the_papers_own_detectors():
    padim = {"detector": "padim", "signature": "", "convention": ""}
    scores = pd.concat(
        [
            _scores([0.9, 0.8, 0.1], **padim),
            _scores([0.6, 0.7], **padim, dataset="ssdd_kmeans"),
            _scores([0.5], convention="centred"),
            _scores([0.4], convention="centred", dataset="ssdd_kmeans"),
        ]
    )
    found = effects_of.removal_effect(scores, PAPER, "resnet18")
    assert found["setting"].tolist() == ["PaDiM", "PaDiM-ACE, centred"]
    assert found[["masks", "kmeans", "difference"]].iloc[0].tolist() == pytest.approx([85, 65, -20])
    assert found["difference_std"].iloc[0] == pytest.approx(np.std([30, 10], ddof=1))
    assert found["paper"].iloc[0] == 68.97 and np.isnan(found["paper"].iloc[1])
    html = page.removal_html(found, "caption", "name")
    assert "−20.0 ± 14.1" in html and "nan" not in html
    assert "85.0 % by masks and 65.0 % by k-means" in page.removal_in_words(found)


def test_the_largest_effect_of_the_clamp_keeps_its_sign():
    rows = [
        ("ssdd", *where, "full", "", seed, raw, clamped, 0.25)
        for where in (("padim", "", ""), ("ace", "mean", "centred+D1"))
        for seed, (raw, clamped) in enumerate(((0.5, 0.51), (0.8, 0.75)))
    ]
    columns = ["dataset", "detector", "signature", "convention", "covariance", "aggregation", "seed"]
    clamp = pd.DataFrame(rows, columns=[*columns, "raw", "clamped", "tied"])
    found = effects_of.clamp_effect(clamp)
    assert found["setting"].tolist() == ["PaDiM"]
    numbers = found[["raw", "clamped", "change", "most", "tied"]].iloc[0].tolist()
    assert numbers == pytest.approx([65, 63, -2, -5, 25])
    said = page.clamp_in_words(clamp)
    assert "ties 25.0 %" in said and "at most 5.00 points (SSDD by masks, PaDiM, seed 1)" in said
    mined = clamp.assign(detector="ace", signature="mined:4", convention="centred")
    assert "(SSDD by masks, PaDiM-ACE, centred, mined:4, seed 1)" in page.clamp_in_words(mined)


def test_the_fill_in_words_and_as_a_table():
    measures = {"images": 7, "correlation_background": 0.5, "correlation_fill": -0.001}
    measures |= {"window_auroc": 0.99, "image_auroc": 0.95}
    fill = pd.DataFrame(
        [("mstar", *pair) for pair in measures.items()], columns=["dataset", "measure", "value"]
    )
    said = page.fill_in_words(fill)
    assert "(7 pairs)" in said and "by 0.00 in the fill" in said and "**95.0 %**" in said
    assert "Does PaDiM use this?" not in said
    assert "−0.001" in page.fill_html(fill, "caption", "name")
