import math
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from padim_ace.experiment.results import COLUMNS
from padim_ace.paper import published
from padim_ace.report import tables

ROOT = Path(__file__).parents[2]
PAPER = published.read_published(ROOT / "book/published.csv")


def test_every_number_of_the_papers_tables_is_there():
    assert len(PAPER) == 42
    assert dict(PAPER["table"].value_counts()) == {1: 20, 2: 8, 3: 6, 4: 8}
    assert set(PAPER["metric"]) == {"auroc"}
    assert "pixel" not in set(PAPER[PAPER["dataset"] == "mstar"]["level"])  # the paper gives none
    assert not PAPER.duplicated(list(published.COLUMNS[:-2])).any()


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
    assert published.tolerance(3, [1, 3, 5, 3]) == pytest.approx(2 * math.sqrt(3 + 2 / 3))
    assert published.tolerance(3, [50]) == pytest.approx(2 * math.sqrt(3))


def test_the_verdict_changes_when_a_number_is_perturbed():
    ours = [84.0, 85.0, 86.0]
    assert published.verdict(84.99, 2.56, ours).word == "reproduced"
    moved = published.tolerance(2.56, ours) + 0.02
    for sign in (-1, 1):
        assert published.verdict(84.99 + sign * moved, 2.56, ours).word == "differs"
        assert (
            published.verdict(84.99, 2.56, [value + sign * (moved + 0.02) for value in ours]).word
            == "differs"
        )
    assert published.verdict(84.99, 2.56, []).word == "not run"


def scores_of(cell, values, reading, **changed):
    """Scores that the paper's own cell would match, one row per seed."""
    row = dict(
        dataset=cell.dataset,
        backbone=cell.backbone,
        detector=published.DETECTORS[cell.model],
        covariance=cell.covariance,
        aggregation=cell.aggregation,
        signature="mean" if cell.model == "padim_ace" else "",
        convention=reading,
        level=cell.level,
        metric=cell.metric,
    )
    rows = [row | changed | {"seed": seed, "value": value / 100} for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def ours(cell):
    """A cell of the paper by the name that its dataset has here."""
    return cell._replace(dataset={"ssdd": "ssdd_kmeans"}.get(cell.dataset, cell.dataset))


def convention(cell):
    return "published" if cell.model == "padim_ace" else ""


def test_a_ledger_of_the_papers_own_numbers_is_reproduced_and_of_perturbed_ones_is_not():
    # The paper has one cell several times over (PaDiM-ACE, ResNet-18, HRSID), each another number.
    one_each = PAPER.drop_duplicates(["dataset", "model", "backbone", "covariance", "aggregation", "level"])
    cells = one_each.itertuples()
    scores = pd.concat([scores_of(ours(cell), [cell.mean] * 3, convention(cell)) for cell in cells])
    assert set(tables.ledger(one_each, scores)["verdict"]) == {"reproduced"}

    moved = one_each.copy()
    moved["mean"] = [cell.mean - published.tolerance(cell.std, []) - 0.01 for cell in one_each.itertuples()]
    ledger = tables.ledger(moved, scores)
    assert set(ledger["verdict"]) == {"differs"} and (ledger["note"] != "").all()


def test_the_papers_ssdd_is_compared_with_ours_prepared_by_k_means():
    cells = PAPER[(PAPER["table"] == 1) & (PAPER["dataset"] == "ssdd") & (PAPER["model"] == "padim")]
    # Ours agrees with the paper by k-means and is 9 points off by masks: the other way round it would differ.
    kmeans = [scores_of(ours(cell), [cell.mean] * 3, "") for cell in cells.itertuples()]
    masks = [scores_of(cell, [cell.mean - 9] * 3 + [0], "") for cell in cells.itertuples()]
    ledger = tables.ledger(cells, pd.concat(kmeans + masks))
    assert set(ledger["verdict"]) == {"reproduced"} and set(ledger["prepared"]) == {"ssdd_kmeans"}
    assert ledger["ours_model"].tolist() == pytest.approx(cells["mean"].tolist())
    assert ledger["ours_by_masks"].tolist() == pytest.approx((cells["mean"] - 9).tolist())
    # Prepared by masks alone it was not run as the paper did.
    ledger = tables.ledger(cells, pd.concat(masks))
    assert set(ledger["verdict"]) == {"not run"} and ledger["ours_by_masks"].notna().all()


def test_only_ssdd_has_a_second_preparation():
    cells = PAPER.drop_duplicates(["dataset", "model", "backbone", "covariance", "aggregation", "level"])
    scores = pd.concat([scores_of(ours(cell), [50], convention(cell)) for cell in cells.itertuples()])
    ledger = tables.ledger(cells, scores)
    assert ledger["ours_by_masks"].isna().all()
    assert dict(zip(ledger["dataset"], ledger["prepared"], strict=True)) == {
        "mstar": "mstar",
        "hrsid": "hrsid",
        "ssdd": "ssdd_kmeans",
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"metric": "ap"},
        {"level": "pixel"},
        {"dataset": "mstar"},
        {"backbone": "tf_efficientnet_lite0"},
        {"covariance": "diagonal"},
        {"signature": "masked"},
        {"convention": "centred"},
        {"detector": "padim"},
    ],
)
def test_a_number_never_stands_under_another_name(changed):
    cell = next(PAPER[(PAPER["dataset"] == "ssdd") & (PAPER["level"] == "image")].itertuples())
    assert published.reproduced(cell, scores_of(cell, [63.47], "published"), "published") == {
        0: pytest.approx(63.47)
    }
    assert published.reproduced(cell, scores_of(cell, [63.47], "published", **changed), "published") == {}


def test_why_a_number_was_not_run_says_what_would_run_it(tmp_path):
    cell = SimpleNamespace(dataset="mstar", backbone="resnet50", model="dfm")
    assert "make book" in published.why_not_run(cell, {})
    (tmp_path / "not_run.csv").write_text(
        "dataset,detector,backbone,reason,command\nmstar,dfm,resnet50,weights not at hand,make book\n"
    )
    said = published.why_not_run(cell, published.read_not_run(tmp_path / "not_run.csv"))
    assert said == "weights not at hand; run it by `make book`"
    assert published.read_not_run(tmp_path / "none.csv") == {}


def test_percent_out_of_range_is_refused(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text((ROOT / "book/published.csv").read_text().replace("84.99", "849.9"))
    with pytest.raises(published.ResultsError, match="line 2"):
        published.read_published(path)
