import numpy as np
import pandas as pd
import pytest
from scipy import stats

from padim_ace.report import beyond, beyond_page
from padim_ace.report.figures import svg

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


@pytest.mark.parametrize(("gain", "wins"), [(0.01, True), (0.001, False), (-0.01, False)])
def test_the_best_row_of_a_column_stands_beside_padim(gain, wins):
    frame = beyond.comparison(scores(gain), "auroc", [("ssdd", "image")])
    best = beyond.best_rows(frame, "ace", "image labels")
    (row,) = best.to_dict("records")
    assert row["named"] == "mined signature" and row["wins"] is wins
    assert row["padim"] == pytest.approx(90) and row["mean"] == pytest.approx(90 + 100 * gain)
    html = beyond_page.best_html(best, "caption", "name")
    assert ("▲" in html) is wins
    assert f"{100 * gain:+.2f} ± ".replace("-", "−") in html


def test_the_best_row_with_masks_is_not_compared_with_rows_that_have_none():
    frame = beyond.comparison(scores(0.2), "auroc", [("ssdd", "image")])
    assert beyond.best_rows(frame, "ace", "masks")["named"].tolist() == [
        "masked signature, background shared"
    ]
    assert beyond.best_rows(frame, "glrt", "masks").empty


def test_the_gain_figure_draws_and_says_every_gain():
    columns = [("ssdd", "image")]
    figure, alt = beyond_page.gain_figure(beyond.comparison(scores(0.01), "auroc", columns))
    assert "SSDD by masks, image, ACE: mined +1.00." in alt
    drawn = [line.get_xdata() for line in figure.axes[0].get_lines() if line.get_label() == "_nolegend_"]
    assert any(np.allclose(x, 1) for x in drawn if len(x) == 1)
    assert svg(figure, alt)


def test_a_choice_is_counted_once_per_seed():
    rows = [(seed, "mined", n, n == (4 if seed else 16), "ssdd") for seed in range(3) for n in (4, 16)]
    frame = pd.DataFrame(rows, columns=["seed", "signature", "number", "chosen", "dataset"])
    html = beyond_page.selection_html(frame, "caption", "name")
    body = html[html.index("<tbody>") :]
    assert [text.split("<")[0] for text in body.split(">") if text[:1].isdigit()] == ["2", "1"]


def test_likelihood_is_relative_to_no_shrinkage():
    seeds = {"0": {"shrinkage": {"0.0": -5.0, "0.1": -4.0}}, "1": {"shrinkage": {"0.0": -7.0, "0.1": -7.5}}}
    html = beyond_page.shrinkage_html({"mstar": seeds}, "caption", "name")
    assert ">0.00</td>" in html and ">0.25</td>" in html and ">0.1</th>" in html


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
    html = beyond_page.comparison_html(frame, "caption", "name")
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
    fewest = beyond.fewest(few, every, columns)
    assert fewest[["mined", "masked"]].values.tolist() == [["20", "20"]]
    assert ">20</td>" in beyond_page.fewest_html(fewest, "caption", "name")
    figure = beyond_page.supervision_figure(few, every, columns)
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 4]
    assert len(lines) >= 2
