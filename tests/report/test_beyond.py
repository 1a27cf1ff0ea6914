import numpy as np
import pandas as pd
import pytest
from fakes.scores import rows
from test_html_tables import Read

from padim_ace.detect.detector import PADIM, Detector
from padim_ace.report import beyond
from padim_ace.report.figures import svg

SHARED = Detector(background="shared", signature="masked")
MINED = Detector(signature="mined")
COLUMN = ("ssdd", "image", "auroc")
VALUES = np.array([0.90, 0.92, 0.88, 0.91, 0.89])


def scores(gain):
    """ACE is ahead of PaDiM by ``gain`` on each seed, give or take a little."""
    wobble = np.array([0.001, -0.001, 0.002, -0.002, 0])
    parts = [rows(PADIM, VALUES), rows(MINED, VALUES + gain + wobble), rows(SHARED, VALUES + 0.05)]
    return pd.concat([*parts, rows(Detector(), VALUES - 0.2), rows(Detector(convention="equation"), VALUES)])


@pytest.mark.parametrize(("gain", "wins"), [(0.01, True), (0.0005, False), (-0.01, False)])
def test_a_detector_wins_by_more_than_the_interval_of_its_paired_gain(gain, wins):
    frame = beyond.comparison(scores(gain), [COLUMN])
    row = frame[frame["signature"] == "mined"].iloc[0]
    assert row["gain"] == pytest.approx(100 * gain) and row["seeds"] == 5
    assert row["gain_half"] == pytest.approx(
        2.776 * np.std([0.1, -0.1, 0.2, -0.2, 0], ddof=1) * (1 / 5 + 1 / 8) ** 0.5, rel=1e-3
    )
    assert row["wins"] == wins and row["loses"] == (gain < -0.002)


def test_the_detectors_are_those_as_they_are_meant_in_the_order_of_the_registries():
    assert beyond.detectors(scores(0)) == [PADIM, Detector(), MINED, SHARED]


def test_the_table_says_what_supervision_each_row_uses_and_marks_the_best_and_those_that_win():
    read = Read(beyond.comparison_table(beyond.comparison(scores(0.01), [COLUMN]), "caption", "name"))
    assert read.rows[0] == ["Detector", "Signature", "Supervision", "SSDD by masks, image"]
    padim, mean, mined, masked = read.rows[1:]
    assert padim[:3] == ["Mahalanobis", "–", "normal images"] and mean[:3] == ["ACE", "mean", "image labels"]
    assert masked[:3] == ["ACE, shared background", "masked", "masks"]
    assert "▲" not in padim[3] + mean[3] and "▼" in mean[3] and "▲" in mined[3] and "▲" in masked[3]
    assert masked[3].startswith("95.0 ± 2.5") and read.bold == {(4, 3)}
    assert read.titles[3, 3] == "+1.00 ± 0.25 over PaDiM on the same 5 seeds"


def test_wins_and_losses_of_one_detector_over_the_columns():
    pixel = [rows(PADIM, VALUES, level="pixel"), rows(MINED, VALUES - 0.01, level="pixel")]
    pixel.append(rows(Detector(), VALUES + [0.1, -0.1, 0.1, -0.1, 0], level="pixel"))
    frame = beyond.comparison(pd.concat([scores(0.01), *pixel]), [COLUMN, ("ssdd", "pixel", "auroc")])
    found = beyond.wins(frame).set_index("Detector")
    assert found.loc["ACE, mined"].tolist() == ["image labels", 1, 1, 2]
    assert found.loc["ACE, mean"].tolist() == ["image labels", 0, 1, 2]
    assert found.loc["ACE, masked, shared background"].tolist() == ["masks", 1, 0, 1]
    assert list(found.index)[0] == "ACE, masked, shared background"  # of equal wins the one without a loss


def test_the_gain_figure_draws_and_says_every_gain():
    figure, alt = beyond.gain_figure(beyond.comparison(scores(0.01), [COLUMN]))
    assert "SSDD by masks, image, ACE: mined +1.00." in alt
    drawn = [line.get_xdata() for line in figure.axes[0].get_lines() if line.get_label() == "_nolegend_"]
    assert any(np.allclose(x, 1) for x in drawn if len(x) == 1)
    assert svg(figure, alt)


def test_a_choice_is_counted_once_per_seed():
    chosen = [(seed, "mined", n, n == (4 if seed else 16), "ssdd") for seed in range(3) for n in (4, 16)]
    frame = pd.DataFrame(chosen, columns=["seed", "signature", "number", "chosen", "dataset"])
    read = Read(beyond.selection_table(frame, "caption", "name"))
    assert read.rows == [["Dataset", "4 patches mined", "16 patches mined"], ["SSDD by masks", "2", "1"]]


def test_few_images():
    few = pd.concat(rows(MINED, VALUES + g, images=n) for n, g in ((1, -0.1), (5, -0.01), (20, 0.01)))
    found = beyond.by_images(few, scores(0.02), COLUMN)
    assert list(found) == ["1", "5", "20", "all"]
    assert [gain.mean for _, gain in found.values()] == pytest.approx([-10, -1, 1, 2])
    figure = beyond.supervision_figure(few, scores(0.02), [COLUMN])
    lines = [line.get_ydata() for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 4]
    assert any(np.allclose(line, [80, 89, 91, 92]) for line in lines)
