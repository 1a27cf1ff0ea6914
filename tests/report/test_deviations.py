import numpy as np
import pandas as pd
import pytest
from fakes.scores import rows
from test_html_tables import Read

from padim_ace.detect.detector import PADIM, Detector
from padim_ace.paper.detectors import DETECTORS
from padim_ace.report import deviations

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


def test_seed_spread_of_the_detectors_that_were_run():
    found = deviations.seed_spread(of("published", [0.5, 0.6, 0.7]), ["mstar", "ssdd"], "resnet18")
    assert found.iloc[0, :3].tolist() == ["SSDD by masks", "PaDiM-ACE, published code", "image"]
    assert found.iloc[0, 3:].tolist() == pytest.approx([3, 60, 10, 50, 70]) and len(found) == 1


PAPER = pd.DataFrame(
    [
        (1, "ssdd", "padim", "image", 68.97, 4.41),
        (1, "ssdd", "padim_ace", "image", 63.47, 4.57),
        (3, "ssdd", "padim", "image", 1.0, 1.0),
    ],
    columns=["table", "dataset", "model", "level", "mean", "std"],
)


def test_ways_of_removal_are_compared_on_the_seeds_of_both_and_only_with_the_papers_own_detectors():
    scores = [rows(PADIM, [0.9, 0.8, 0.1]), rows(PADIM, [0.6, 0.7], dataset="ssdd_kmeans")]
    scores += [of("centred", [0.5]), of("centred", [0.4], dataset="ssdd_kmeans")]
    found = deviations.removal_effect(pd.concat(scores), PAPER, "resnet18").to_numpy().tolist()
    assert found == [
        ["PaDiM", "image", "85.0 ± 7.1", "65.0 ± 7.1", "−20.0 ± 142.1", "68.97 ± 4.41"],
        ["PaDiM-ACE, centred", "image", "50.0", "40.0", "−10.0", "–"],
    ]


def test_the_leak_is_the_paired_change_from_one_arm_to_the_other():
    scores = [rows(PADIM, [0.8, 0.9, 0.7], protocol="apart"), rows(PADIM, [0.81, 0.92], protocol="twins")]
    scores += [rows(PADIM, [0.1, 0.1]), of("published", [0.5], protocol="twins"), of("centred", [0.5])]
    found = deviations.leak(pd.concat(scores), ["ssdd", "mstar"], "resnet18").to_dict("records")
    half = 12.706 * np.std([1, 2], ddof=1) * (1 / 2 + 1 / 8) ** 0.5
    assert found == [
        {
            "Dataset": "SSDD by masks",
            "Detector": "PaDiM",
            "Seeds": 2,
            "Image AUROC, apart": pytest.approx(80),
            "Image, change": f"+1.50 ± {half:.2f}",
        }
    ]
    assert deviations.leak(of("centred", [0.5]), ["ssdd"], "resnet18").empty


def test_the_largest_effect_of_the_clamp_keeps_its_sign():
    parts = [rows(detector, [0, 0]) for detector in (PADIM, AS_CODE)]
    clamp = pd.concat(part.assign(raw=[0.5, 0.8], clamped=[0.51, 0.75], tied=0.25) for part in parts)
    found = deviations.clamp_effect(clamp)
    assert found["Detector"].tolist() == ["PaDiM", "PaDiM-ACE, published code"]
    assert found.iloc[0, 2:].tolist() == [pytest.approx(65), pytest.approx(63), "−2.00", "−5.00", "25.0"]
