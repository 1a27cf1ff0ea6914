import numpy as np
import pandas as pd
import pytest
from fakes.scores import rows
from test_html_tables import Read

from padim_ace.detect.detector import PADIM, Detector
from padim_ace.paper.detectors import DETECTORS
from padim_ace.report import deviations
from padim_ace.report.figures import svg

AS_CODE = Detector(convention="published")


def of(convention, values, covariance="full", **changed):
    return rows(Detector(covariance=covariance, convention=convention), values, **changed)


def test_an_effect_is_the_mean_of_the_differences_of_equal_seeds():
    others = [{"dataset": "mstar"}, {"backbone": "other"}, {"covariance": "diagonal"}]
    scores = pd.concat(
        [of("published", [0.5, 0.7, 0.1]), of("published-D3", [0.6, 0.9])]
        + [of("centred", [0.9, 0.8]), of("centred+D3", [0.4, 0.5])]
        + [of("published-D3", [0, 0], **changed) for changed in others]
    )
    found = deviations.effects(scores, ["ssdd"], "resnet18")
    assert list(found["deviation"]) == ["D3", "D3"] and list(found["seeds"]) == [2, 2]
    corrected, introduced = found.iloc[0], found.iloc[1]
    assert corrected["direction"] == "corrected" and introduced["direction"] == "introduced"
    assert corrected[["before", "after", "effect"]].tolist() == pytest.approx([60, 75, 15])
    assert corrected["half"] == pytest.approx(12.7062 * np.std([10, 20], ddof=1) * (1 / 2 + 1 / 8) ** 0.5)
    assert introduced["effect"] == pytest.approx(-40)
    read = Read(deviations.effects_table(found, "caption", "name"))
    assert read.rows[0][3:] == ["Image AUROC, corrected", "Image AUROC, introduced"]
    assert read.rows[1] == ["SSDD by masks", "D3", "full", "+15.0 ± 71.0", "−40.0 ± 142.1"]


def test_the_diagonals_deviation_is_measured_on_the_diagonal():
    scores = [of("published", [0.5]), of("published-D2", [0.9])]
    scores += [of("published", [0.5], "diagonal"), of("published-D2", [0.6], "diagonal")]
    assert deviations.effects(pd.concat(scores), ["ssdd"], "resnet18")["effect"].tolist() == pytest.approx(
        [10]
    )


def test_every_deviation_has_its_detector_among_those_scored():
    for base, start in deviations.DIRECTIONS.values():
        for deviation, covariance in deviations.COVARIANCE.items():
            for convention in (base, start + deviation):
                assert Detector(covariance=covariance, convention=convention) in DETECTORS["paper"]


def test_a_change_is_paired_and_its_means_are_of_the_seeds_of_both():
    before = pd.Series([90.0, 80, 10])
    assert deviations.change_text(before, pd.Series([60.0, 70])) == "85.00 to 65.00, −20.00 ± 142.06"
    assert deviations.change_text(before[:1], before[2:]) == ""


def test_a_list_leaves_out_what_was_not_run():
    said = {("ssdd", PADIM, "image"): "1", ("ssdd", AS_CODE, "image"): "2", ("ssdd", AS_CODE, "pixel"): "3"}
    found = deviations.listed(["mstar", "ssdd"], [PADIM, AS_CODE], lambda *at: said.get(at, ""))
    assert found.splitlines() == [
        "- SSDD by masks",
        "    - PaDiM: image 1",
        "    - PaDiM-ACE, published code: image 2; pixel 3",
    ]


def test_the_figure_of_the_fill_says_what_is_seen():
    filled = np.zeros((20, 20), bool)
    filled[5:10, 5:10] = True
    figure, alt = deviations.fill_figure(np.zeros((20, 20), np.uint8), filled, np.where(filled, 0.25, 0.75))
    assert svg(figure, alt).startswith("<svg role=") and "0.25 on average" in alt and "0.75 outside" in alt
