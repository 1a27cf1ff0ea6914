import numpy as np
import pandas as pd
import pytest
from fakes.scores import rows
from test_html_tables import Read

from padim_ace.detect.detector import PADIM, RECOMMENDED, UNSUPERVISED
from padim_ace.paper.detectors import CHANGED
from padim_ace.report import beyond
from padim_ace.report.figures import svg

VALUES = np.array([0.90, 0.92, 0.88, 0.91, 0.89])
WOBBLE = np.array([0.001, -0.001, 0.002, -0.002, 0])
HALF = 2.776 * 100 * np.std(WOBBLE, ddof=1) * (1 / 5 + 1 / 8) ** 0.5  # Nadeau and Bengio's


def scores(gain, rx=0.0, seeds=5, **changed):
    """The recommended detector is ahead of PaDiM by ``gain`` on each seed, and of RX by ``rx``."""
    return pd.concat(
        rows(who, values, protocol="scenes", level=level, metric=metric, **at | changed)
        for level, metric in beyond.METRICS
        for who, values, at in (
            (PADIM, VALUES, {}),
            (UNSUPERVISED, VALUES + 0.01, {}),
            (RECOMMENDED, VALUES + gain + WOBBLE, {}),
            ("rx", VALUES + gain - rx, {"backbone": ""}),
            ("mhpatchcore", (VALUES + gain - 0.03)[:seeds], {}),
        )
    )


@pytest.mark.parametrize(
    ("gain", "above", "below"), [(0.01, True, False), (0.001, False, False), (-0.01, False, True)]
)
def test_ahead_means_by_more_than_the_interval_of_the_paired_difference(gain, above, below):
    frame = beyond.comparison(scores(gain), beyond.COMPARED, ["ssdd"])
    row = frame[(frame["detector"] == "PaDiM") & (frame["metric"] == "aupro")].iloc[0]
    assert row["ahead"] == pytest.approx(100 * gain) and row["ahead_half"] == pytest.approx(HALF, rel=1e-3)
    assert (row["above"], row["below"]) == (above, below)


def test_the_table_marks_what_is_decided_and_says_how_many_seeds():
    frame = beyond.comparison(scores(0.01, rx=-0.01, seeds=3), beyond.COMPARED, ["ssdd"])
    read = Read(beyond.comparison_table(frame, "caption", "name"))
    assert read.rows[0] == ["Detector", "Known", *beyond.METRICS.values()]
    ours, padim, rx, patches = read.rows[1:]
    assert [ours[0], ours[1]] == ["recommended", "image labels"] and (1, 2) in read.bold
    assert "▼" in padim[2] and "▲" in rx[2] and "▼" in patches[2] and "▼" not in ours[2]
    assert "on the same 3 seeds" in read.titles[4, 2] and "on the same 5 seeds" in read.titles[2, 2]


def test_several_datasets_have_a_column_each_and_what_is_decided_is_said_of_each():
    both = pd.concat([scores(0.01, rx=0.01), scores(0.01, rx=-0.01, dataset="hrsid")])
    frame = beyond.comparison(both, beyond.FRONT, ["ssdd", "hrsid"], [("image", "auroc")])
    heads = Read(beyond.comparison_table(frame, "caption", "name")).rows[0]
    assert heads[2:] == ["SSDD Image AUROC", "HRSID Image AUROC"]
    assert (
        beyond.decided(frame) == "above all others in image AUROC on SSDD; below RX in image AUROC on HRSID"
    )
    level = beyond.comparison(scores(0.01), beyond.FRONT, ["ssdd"], [("pixel", "ap")])
    assert beyond.decided(level) == "not decided against RX in pixel AP on SSDD"
    assert "recommended 91.0" in beyond.front_figure(frame)[1]


def test_columns_are_counted_where_it_is_above_all_rivals_and_below_one():
    both = pd.concat([scores(0.01, rx=0.01), scores(0.01, rx=-0.01, dataset="hrsid")])
    assert beyond.tally(both, ["ssdd", "hrsid"]) == (5, 5, 10)
    assert beyond.tally(scores(0.01), ["ssdd"]) == (0, 0, 5)  # RX is level
    without = both[both["detector"] != "rx"]
    assert [*beyond.rivals(without, ["ssdd"])] == ["PaDiM", "MH-PatchCore"]
    assert beyond.tally(without, ["ssdd", "hrsid"]) == (10, 0, 10)  # a rival that was not run is not counted


def test_changes_are_differences_to_the_recommended_detector():
    kinds = {"as recommended": 0.0, "MI-ACE signature": -0.02, "no peak": 0.0005}
    validation = pd.concat(
        rows(
            CHANGED[name],
            VALUES + change + (WOBBLE if change else 0),
            protocol="scenes",
            level=level,
            metric=metric,
        )
        for name, change in kinds.items()
        for level, metric in beyond.METRICS
    )
    read = Read(beyond.changes_table(validation, kinds, ["ssdd"], "caption", "name"))
    assert [row[0] for row in read.rows[1:]] == [*kinds]
    assert read.rows[1][1] == "90.0" and "▼" in read.rows[2][1] and "−2.0" in read.rows[2][1]
    assert read.rows[3][1] == "0.0"


def test_figures_say_in_words_what_they_show():
    few = pd.concat(
        rows(RECOMMENDED, VALUES + n / 1000, protocol="scenes", level="image", metric="auroc", images=n)
        for n in (1, 5, 20)
    )
    figure, said = beyond.supervision_figure(few, scores(0.05), ["ssdd"], [("image", "auroc")])
    assert "1 90.1, 5 90.5, 20 92.0, all 95.0" in said and svg(figure, said)
    figure, said = beyond.ahead_figure(scores(0.05), ["ssdd"])
    assert "above PaDiM: Image AUROC +5.0" in said and svg(figure, said)
