import numpy as np
import pandas as pd
import pytest

from padim_ace import deviation_effects as effects_of
from padim_ace.results import COLUMNS


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
    from padim_ace.detectors import DEVIATIONS, TABLES

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
    scores = _scores([0.5, 0.6, 0.7])
    settings = {"run": {"convention": "published"}, "not run": {"convention": "equation"}}
    found = effects_of.seed_spread(scores, "ssdd", "image", "resnet18", settings)
    assert found["setting"].tolist() == ["run"]
    assert found.iloc[0, 1:].tolist() == pytest.approx([3, 60, 10, 50, 70])
