import numpy as np
import pandas as pd
import pytest
from scipy import stats

from padim_ace import beyond

SEEDS = range(5)


def rows(detector, signature, values, dataset="ssdd", level="image", metric="auroc"):
    convention = "centred" if signature else ""
    return [
        {
            "dataset": dataset, "backbone": "resnet18", "detector": detector, "covariance": "full",
            "aggregation": "", "signature": signature, "convention": convention, "seed": seed,
            "level": level, "metric": metric, "value": value,
        }
        for seed, value in zip(SEEDS, values, strict=True)
    ]  # fmt: skip


PADIM = np.array([0.90, 0.92, 0.88, 0.91, 0.89])


def scores(gain):
    """ACE is ahead of PaDiM by ``gain`` on each seed, give or take a little."""
    wobble = np.array([0.001, -0.001, 0.002, -0.002, 0])
    return pd.DataFrame(
        rows("padim", "", PADIM)
        + rows("ace", "mined", PADIM + gain + wobble)
        + rows("ace_shared", "masked", PADIM + 0.05)
        + rows("ace", "mean", PADIM - 0.2)
    )


def test_paired_gain_against_scipy():
    frame = beyond.comparison(scores(0.01), "auroc", [("ssdd", "image")])
    row = frame[(frame["detector"] == "ace") & (frame["signature"] == "mined")].iloc[0]
    ours = PADIM + 0.01 + np.array([0.001, -0.001, 0.002, -0.002, 0])
    expected = stats.ttest_rel(100 * ours, 100 * PADIM).confidence_interval()
    assert row["gain"] - row["gain_half"] == pytest.approx(expected.low)
    assert row["gain"] + row["gain_half"] == pytest.approx(expected.high)
    assert row["wins"] and row["seeds"] == 5


@pytest.mark.parametrize(
    ("gain", "words"),
    [(0.01, "above PaDiM by more"), (0.001, "not above PaDiM by more"), (-0.01, "below PaDiM")],
)
def test_a_verdict_changes_with_the_numbers(gain, words):
    frame = beyond.comparison(scores(gain), "auroc", [("ssdd", "image")])
    (sentence,) = beyond.verdict_sentences(frame)
    assert sentence.endswith(f": {words}" + (" than its interval." if "more" in words else "."))


def test_wins_and_losses_of_one_detector_over_the_columns():
    frame = pd.concat(
        [
            scores(0.01),
            pd.DataFrame(
                rows("padim", "", PADIM, level="pixel")
                + rows("ace", "mined", PADIM - 0.01, level="pixel")
                + rows("ace", "mean", PADIM + np.array([0.1, -0.1, 0.1, -0.1, 0]), level="pixel")
            ),
        ]
    )
    found = beyond.wins_by_detector(
        beyond.comparison(frame, "auroc", [("ssdd", "image"), ("ssdd", "pixel")])
    ).set_index("detector")
    assert found.loc["ACE with the mined signature"].tolist() == ["image labels", 1, 1, 2]
    assert found.loc["ACE with the mean signature"].tolist() == ["image labels", 0, 1, 2]
    shared = "ACE with the masked signature, background shared"
    assert found.loc[shared].tolist() == ["masks", 1, 0, 1]


def test_the_table_says_what_supervision_each_row_uses():
    frame = beyond.comparison(scores(0.01), "auroc", [("ssdd", "image")])
    html = beyond.comparison_html(frame, "caption", "name")
    body = html[html.index("<tbody>") : html.index("</tbody>")].split("<tr>")[1:]
    assert len(body) == 4
    assert "normal images" in body[0] and "image labels" in body[1] and "masks" in body[3]
    assert "▲" not in body[0] and "▲" in body[3]
    assert "<strong>95.0" in body[3] and body[3].count("<strong>") == 1


def test_few_images():
    few = pd.concat(
        pd.DataFrame(rows("ace", s, PADIM + g)).assign(images=n)
        for s in ("mined", "masked")
        for n, g in ((1, -0.1), (5, -0.01), (20, 0.01))
    )
    every = pd.concat([scores(0.02), pd.DataFrame(rows("ace", "masked", PADIM + 0.03))])
    columns = [("ssdd", "image")]
    assert beyond.supervision_in_words(few, every, columns) == [
        "SSDD, image, mined: 20",
        "SSDD, image, masked: 20",
    ]
    figure = beyond.supervision_figure(few, every, columns)
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 4]
    assert len(lines) >= 2
