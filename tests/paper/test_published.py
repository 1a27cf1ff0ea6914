import math
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

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


def test_tolerance_by_hand():
    # variances 9/3 and 4/4 (of 1, 3, 5, 3: squared deviations 4+0+4+0 = 8, over 3), so 2 sqrt(3 + 8/3/4)
    assert published.tolerance(3, pd.Series([1, 3, 5, 3])) == pytest.approx(2 * math.sqrt(3 + 2 / 3))
    assert published.tolerance(3, pd.Series([50])) == pytest.approx(2 * math.sqrt(3))


def test_the_verdict_changes_when_a_number_is_perturbed():
    ours = pd.Series([84.0, 85.0, 86.0])
    assert published.verdict(84.99, 2.56, ours).word == "reproduced"
    moved = published.tolerance(2.56, ours) + 0.02
    for sign in (-1, 1):
        assert published.verdict(84.99 + sign * moved, 2.56, ours).word == "differs"
        assert published.verdict(84.99, 2.56, ours + sign * (moved + 0.02)).word == "differs"
    assert published.verdict(84.99, 2.56, ours[:0]).word == "not run"


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
