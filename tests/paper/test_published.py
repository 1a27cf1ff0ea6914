from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from data_prep.errors import DataError
from padim_ace.paper import published

ROOT = Path(__file__).parents[2]
PAPER = published.read_published(ROOT / "book/published.csv")


def test_every_number_of_the_papers_tables_is_there():
    assert len(PAPER) == 42
    assert dict(PAPER["table"].value_counts()) == {1: 20, 2: 8, 3: 6, 4: 8}
    assert set(PAPER["metric"]) == {"auroc"}
    assert "pixel" not in set(PAPER[PAPER["dataset"] == "mstar"]["level"])  # the paper gives none
    assert not PAPER.duplicated(list(published.PUBLISHED[:-2])).any()


@pytest.mark.parametrize(
    ("table", "words", "mean", "std"),
    [  # read off the paper, one from each corner of each table
        (1, ("mstar", "padim_ace", "resnet18", "image"), 84.99, 2.56),
        (1, ("ssdd", "winclip", "vit_b_16_plus_240", "pixel"), 91.62, 0.89),
        (1, ("hrsid", "dfm", "resnet50", "pixel"), 90.75, 0.11),
        (2, ("hrsid", "padim_ace", "mobilevit_xs", "pixel"), 15.52, 13.66),
        (2, ("hrsid", "padim_ace", "convnextv2_tiny", "image"), 61.62, 6.43),
    ],
)
def test_numbers_are_the_papers(table, words, mean, std):
    found = PAPER[(PAPER["table"] == table)]
    for column, word in zip(("dataset", "model", "backbone", "level"), words, strict=True):
        found = found[found[column] == word]
    assert [(row.mean, row.std) for row in found.itertuples()] == [(mean, std)]


def test_sums_of_the_columns_of_tables_3_and_4():
    sums = PAPER[PAPER["table"] >= 3].groupby(["table", "level"])["mean"].sum().round(2)
    assert sums[3, "image"] == round(73.79 + 47.52 + 81.29, 2)
    assert sums[3, "pixel"] == round(96.37 + 93.48 + 95.89, 2)
    assert sums[4, "image"] == round(79.64 + 77.75 + 81.68 + 65.17, 2)
    assert sums[4, "pixel"] == round(96.18 + 96.45 + 96.10 + 95.29, 2)


def half(paper_std, runs, std, seeds):
    """Half the 90 % interval of the difference, from scipy's t."""
    a, b = paper_std**2 * (1 / runs + 1 / 8), std**2 * (1 / seeds + 1 / 8)
    return stats.t.ppf(0.95, (a + b) ** 2 / (a**2 / (runs - 1) + b**2 / (seeds - 1))) * (a + b) ** 0.5


@pytest.mark.parametrize("level", ["image", "pixel"])
def test_one_cell_gets_each_verdict_as_its_numbers_and_spreads_move(level):
    assert published.MARGINS[level] == 5
    ours = 85 + np.array([-1.0, 1, -2, 2, 0, -1, 1, -2, 2, 0])

    def judged(mean, std, spread=1.0, seeds=10):
        return published.verdict(mean, std, pd.Series(85 + spread * (ours - 85))[:seeds], level)

    found = judged(84.99, 1)
    assert found.word == "reproduced" and found.difference == pytest.approx(0.01)
    assert found.half == pytest.approx(half(1, 3, ours.std(ddof=1), 10))
    assert judged(84.99, 3).word == "inconclusive"  # the paper's spread alone
    assert judged(84.99, 1, spread=6).word == "inconclusive"  # ours alone
    for sign in (-1, 1):
        edge = 5 - found.half
        assert judged(85 + sign * (edge - 0.01), 1).word == "reproduced"
        assert judged(85 + sign * (edge + 0.01), 1).word == "differs"  # it excludes zero
        assert judged(85 + sign * 5, 3).word == "inconclusive"
        assert judged(85 + sign * 9, 3).word == "differs"
        assert judged(85 + sign * 9, 3, spread=9).word == "inconclusive"
    assert judged(84.99, 1, seeds=0).word == "not run"


def test_a_verdict_without_spreads():
    flat, one = pd.Series([85.0] * 4), pd.Series([85.0])
    assert [published.verdict(85 + off, 0, flat, "image").word for off in (0, 5, 5.01)] == [
        "reproduced", "reproduced", "differs",
    ]  # fmt: skip
    for std in (0, 1, float("nan")):
        found = published.verdict(85, std, one, "image")
        assert found.word == "inconclusive" and found.would_decide == "more than one run on each side"
    assert published.verdict(85, float("nan"), flat, "image").word == "inconclusive"


def ten(mean, std):
    values = np.array([-1.0, 1] * 5)
    return pd.Series(mean + values * std / values.std(ddof=1))


def test_as_many_seeds_or_runs_as_would_decide_decide_and_one_less_does_not():
    def decided(difference, *sides):
        return difference + half(*sides) <= 5 or difference > half(*sides)

    said = published.verdict(95.98, 0.88, ten(89.41, 9.29), "pixel").would_decide
    seeds = int(said.removesuffix(" seeds"))
    assert decided(6.57, 0.88, 3, 9.29, seeds) and not decided(6.57, 0.88, 3, 9.29, seeds - 1)
    said = published.verdict(77.75, 6.35, ten(85.09, 6.23), "image").would_decide
    runs, _, why = said.partition(" ")
    left = min(half(6.35, 3, 6.23, n) for n in range(11, 200))
    assert why == f"runs of the paper's (±{left:.1f} stays)"
    assert decided(7.34, 6.35, int(runs), 6.23, 10) and not decided(7.34, 6.35, int(runs) - 1, 6.23, 10)
    both = published.verdict(94.25, 4.56, ten(88.69, 6.84), "pixel").would_decide
    none = published.verdict(71.79, 7.42, ten(69.35, 15.61), "image").would_decide
    assert both.startswith("more runs on both sides (") and none.startswith("only more images (")


def test_why_a_number_was_not_run_says_what_would_run_it(tmp_path):
    cell = SimpleNamespace(dataset="mstar", backbone="resnet50", model="dfm")
    assert "make rivals" in published.why_not_run(cell, {})
    (tmp_path / "not_run.csv").write_text(
        "dataset,detector,backbone,reason,command\nmstar,dfm,resnet50,weights not at hand,make book\n"
    )
    said = published.why_not_run(cell, published.read_not_run(tmp_path / "not_run.csv"))
    assert said == "weights not at hand; run it by `make book`"
    assert published.read_not_run(tmp_path / "none.csv") == {}


def test_what_was_not_run_for_want_of_weights_says_which():
    cell = SimpleNamespace(dataset="hrsid", backbone="swinv2_tiny_window8_256", model="padim_ace")
    assert published.why_not_run(cell, {}).startswith("Swin V2 weights") and "config/paper.yaml" in (
        published.why_not_run(cell, {})
    )
    cell = SimpleNamespace(dataset="hrsid", backbone="resnet18", model="padim_ace")
    assert published.why_not_run(cell, {}).startswith("not in the committed results")


def test_how_much_of_hrsid_was_prepared_is_said_as_far_as_it_is_known():
    cell = SimpleNamespace(dataset="hrsid", model="padim_ace")
    assert published.why_different(cell, {"hrsid": 40}).startswith("40 of HRSID's 5,604 images")
    assert not any("5,604" in published.why_different(cell, known) for known in ({}, {"hrsid": 5604}))
    assert "(D9)" in published.why_different(SimpleNamespace(dataset="ssdd", model="padim"), {"hrsid": 40})


def test_percent_out_of_range_is_refused(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text((ROOT / "book/published.csv").read_text().replace("84.99", "849.9"))
    with pytest.raises(DataError, match="line 2"):
        published.read_published(path)


def test_a_header_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text((ROOT / "book/published.csv").read_text().replace("aggregation", "average", 1))
    with pytest.raises(DataError, match="expected the header table,dataset"):
        published.read_published(path)
