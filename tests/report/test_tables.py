from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes.scores import rows
from test_html_tables import Read

from padim_ace.detect.detector import PADIM, Detector
from padim_ace.detect.registry import BACKBONES, COVARIANCES
from padim_ace.experiment.results import read_scores
from padim_ace.paper import published
from padim_ace.paper.detectors import DETECTORS
from padim_ace.report import figures, ledger, tables
from padim_ace.report.summary import summarise
from padim_ace.report.titles import detector_title

ROOT = Path(__file__).parents[2]
PAPER = published.read_published(ROOT / "book/published.csv")


def made_up(dataset="ssdd_kmeans", seeds=10, **changed):
    """Scores of PaDiM and of PaDiM-ACE's three readings, made up for these tests."""
    rng = np.random.default_rng(0)
    bases = {PADIM: 0.9, Detector(): 0.95}
    bases |= {Detector(convention="equation"): 0.6, Detector(convention="published"): 0.5}
    parts = [
        rows(detector, base + rng.uniform(0, 0.04, seeds), dataset=dataset, **({"level": level} | changed))
        for detector, base in bases.items()
        for level in ("image", "pixel")
    ]
    return pd.concat(parts, ignore_index=True)


SCORES = made_up()
TABLE = tables.compare(tables.table_settings(1), SCORES, "ssdd_kmeans", published=PAPER, number=1)


def test_compare_takes_each_number_from_its_own_rows():
    row = TABLE[(TABLE["label"] == "PaDiM") & (TABLE["level"] == "pixel")].iloc[0]
    values = 100 * SCORES[(SCORES["detector"] == "padim") & (SCORES["level"] == "pixel")]["value"]
    assert row["mean"] == pytest.approx(values.mean()) and row["std"] == pytest.approx(values.std())
    assert row["half"] == pytest.approx(summarise(values).half) and row["seeds"] == 10
    assert (row["paper_mean"], row["paper_std"]) == (93.65, 1.02)
    assert row["difference"] == pytest.approx(row["mean"] - 93.65)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_a_table_has_rows_of_detectors_that_are_run_and_all_that_is_registered(number):
    settings = tables.table_settings(number)
    run = [detector.row() for judged in DETECTORS.values() for detector in judged]
    assert all(isinstance(s.detector, str) or s.detector.row() in run for s in settings)
    labels = [setting.label for setting in settings]
    expected = {2: [spec.title for spec in BACKBONES.values()], 3: list(COVARIANCES.values())}
    expected |= {4: list(published.AGGREGATIONS.values())}
    assert set(expected.get(number, ["PaDiM", "RX"])) <= set(labels)


def test_the_papers_four_aggregations_stand_beside_one_detector():
    published_code = Detector(covariance="isotropic", convention="published")
    scores = rows(published_code, [0.8, 0.9], dataset="hrsid")
    frame = tables.compare(tables.table_settings(4), scores, "hrsid", published=PAPER, number=4).query(
        "level == 'image'"
    )
    assert frame["paper_mean"].tolist()[:4] == [79.64, 77.75, 81.68, 65.17]
    assert frame["label"].tolist() == [*published.AGGREGATIONS.values(), "Any"]
    assert frame["mean"].tolist() == pytest.approx([85] * 5)
    alone = tables.compare(tables.table_settings(4), scores.assign(dataset="mstar"), "mstar")
    assert alone["label"].tolist() == ["Any"]


def test_ssdd_prepared_by_masks_has_no_number_of_the_paper_beside_it():
    masks = tables.compare(tables.table_settings(1), made_up("ssdd"), "ssdd", published=PAPER, number=1)
    assert masks["paper_mean"].isna().all() and set(masks["verdict"]) == {""}
    assert masks["mean"].notna().all() and "DFM" not in set(masks["label"])
    read = Read(tables.draw(masks, "caption", "name", 1))
    assert read.rows[0] == ["Model", "Reading", "Image AUROC", "Pixel AUROC"]
    assert tables.in_words(masks).startswith("SSDD by masks: ") and "paper" not in tables.in_words(masks)


def test_the_papers_own_rows_have_one_reading_each():
    found = tables.of_the_paper(TABLE)
    assert found[["label", "level"]].drop_duplicates().shape[0] == len(found) == 8
    assert set(found["label"]) == {"PaDiM-ACE", "PaDiM", "DFM", "WinCLIP"}
    assert set(found.loc[found["label"] == "PaDiM-ACE", "reading"]) == {"published code"}


def test_metrics_other_than_auroc_do_not_enter():
    frame = tables.compare(tables.table_settings(1), made_up(metric="ap"), "ssdd_kmeans")
    assert frame.empty and "not in these results" in tables.draw(frame, "caption", "name").data


def test_a_setting_that_was_not_run_has_one_line_and_says_why():
    dfm = TABLE[TABLE["label"] == "DFM"]
    assert list(dfm["level"]) == ["image", "pixel"] and dfm["mean"].isna().all()
    assert set(dfm["verdict"]) == {"not run"} and dfm["note"].str.contains("make rivals").all()
    nothing = tables.compare(tables.table_settings(2), SCORES.iloc[:0], "hrsid", published=PAPER, number=2)
    assert list(nothing["label"]).count("MobileViT") == 2  # image and pixel, not once per reading
    text = tables.draw(nothing, "caption", "name", 2).data
    assert "<li>ConvNeXt V2 weights come from" in text  # names once what was not run


def test_weights_that_stand_in_are_named_in_the_table_and_in_the_ledger():
    others = rows("dfm", [0.7, 0.8], dataset="ssdd_kmeans", backbone="resnet50_keras")
    scores = pd.concat([SCORES, others])
    found = tables.compare(tables.table_settings(1), scores, "ssdd_kmeans", published=PAPER, number=1)
    dfm = found[(found["label"] == "DFM") & (found["level"] == "image")].iloc[0]
    assert dfm["mean"] == pytest.approx(75) and dfm["paper_mean"] > 0 and dfm["verdict"] != "not run"
    assert dfm["backbone"] == "resnet50_keras" and "Keras" in dfm["note"]
    number = (
        ledger.ledger(PAPER, scores)
        .query("model == 'dfm' and dataset == 'ssdd' and level == 'image'")
        .iloc[0]
    )
    assert number["ours"] == pytest.approx(75) and "Keras" in number["note"]
    timms = pd.concat([scores, others.assign(backbone="resnet50", value=0.9)])  # these are the paper's
    found = tables.compare(tables.table_settings(1), timms, "ssdd_kmeans", published=PAPER, number=1)
    dfm = found[(found["label"] == "DFM") & (found["level"] == "image")].iloc[0]
    assert dfm["mean"] == pytest.approx(90) and dfm["backbone"] == "resnet50" and not dfm["note"]


def test_networks_that_were_never_trained_stand_beside_those_that_were():
    scores = pd.concat(
        [rows(d, [0.6], dataset="hrsid", backbone="mobilevit_xs_random") for d in (PADIM, Detector())]
    )
    found = tables.compare(tables.table_settings(2), scores, "hrsid", published=PAPER, number=2).query(
        "level == 'image'"
    )
    labels = found["label"].tolist()
    assert labels[labels.index("MobileViT") :] == ["MobileViT", *["MobileViT, random weights"] * 2]
    assert found["mean"].iloc[-2:].tolist() == [60, 60] and found["paper_mean"].iloc[-2:].isna().all()
    assert found["reading"].iloc[-2:].tolist() == ["centred", "PaDiM"]


def test_the_best_of_each_column_is_bold_and_verdicts_are_marked_by_more_than_colour():
    read = Read(tables.draw(TABLE, "caption", "name", 1))
    assert {(*read.rows[row][:2], column) for row, column in read.bold} == {
        ("PaDiM", "", 2),  # the paper's best image AUROC on SSDD, 68.97
        ("PaDiM-ACE", "centred", 3),
        ("PaDiM-ACE", "centred", 5),  # 94.25, which stands in each of its three readings
        ("PaDiM-ACE", "equation (1)", 5),
        ("PaDiM-ACE", "published code", 5),
        ("PaDiM-ACE", "centred", 6),
    }
    centred = read.rows[1]
    assert centred[:2] == ["PaDiM-ACE", "centred"] and centred[4].endswith("≠") and centred[7].endswith("~")
    assert "95 % interval of the mean over 10 seeds, corrected for their overlap" in read.titles[1, 3]


def test_numbers_stand_under_their_heads_where_the_paper_has_one_level_only():
    mstar = tables.compare(tables.table_settings(1), made_up("mstar"), "mstar", published=PAPER, number=1)
    read = Read(tables.draw(mstar, "caption", "name", 1))
    image = [f"Image AUROC, {part}" for part in ("paper", "here", "difference")]
    assert read.rows[0] == ["Model", "Reading", *image, "Pixel AUROC"]  # the paper has no pixels of MSTAR
    row = next(row for row in read.rows if row[0] == "PaDiM")
    expected = mstar[mstar["label"] == "PaDiM"].set_index("level")["mean"]
    assert row[2] == "98.76 ± 0.61" and row[3].startswith(f"{expected['image']:.2f}")
    assert row[5].startswith(f"{expected['pixel']:.2f}") and len(row) == 6


def reading(cell):
    return "published" if cell.model == "padim_ace" else ""


def scores_of(cell, values, dataset):
    """Scores that a cell of the paper would match, one row per seed."""
    ours = (
        Detector(covariance=cell.covariance, convention="published") if cell.model == "padim_ace" else PADIM
    )
    ours = ours if cell.model in ("padim", "padim_ace") else cell.model
    at = {"dataset": dataset, "backbone": cell.backbone, "level": cell.level, "metric": cell.metric}
    return rows(ours, np.divide(values, 100), **at)


def prepared(cell):
    return published.PREPARED[cell.dataset]


def test_a_ledger_of_the_papers_own_numbers_is_reproduced_and_of_perturbed_ones_is_not():
    # The paper has one detector several times over (PaDiM-ACE, ResNet-18, HRSID), each time another number.
    one_each = PAPER.drop_duplicates(["dataset", "model", "backbone", "covariance", "level"])
    scores = pd.concat([scores_of(cell, [cell.mean] * 3, prepared(cell)) for cell in one_each.itertuples()])

    def ledger_of(off, std):
        return ledger.ledger(one_each.assign(mean=one_each["mean"] + off, std=std), scores)

    for off, std, word, mark in (
        (1, 1, "reproduced", "✓"),
        (6, 1, "differs", "≠"),
        (1, 3, "inconclusive", "~"),
    ):
        found = ledger_of(off, std)
        assert set(found["verdict"]) == {word}
        assert set(found["note"] != "") == {word == "differs"}
        assert set(found["would_decide"] != "") == {word == "inconclusive"}
        heads, *lines = Read(ledger.draw(found)).rows
        assert all(line[heads.index("Difference")].endswith(mark) for line in lines)
    assert found["ours_by_masks"].isna().all()  # nothing was scored on SSDD by masks
    assert dict(zip(found["dataset"], found["prepared"], strict=True)) == published.PREPARED
    assert set(ledger.ledger(one_each, scores.iloc[:0])["verdict"]) == {"not run"}


def test_the_page_and_the_legend_state_the_margin_that_decides():
    assert set(published.MARGINS.values()) == {5}
    assert "±5 points of image and ±5 of pixel AUROC" in tables.LEGEND
    assert "lies within ±5 points" in (ROOT / "notebooks/ledger.py").read_text()


def test_the_papers_ssdd_is_compared_with_ours_prepared_by_k_means():
    cells = PAPER[(PAPER["table"] == 1) & (PAPER["dataset"] == "ssdd") & (PAPER["model"] == "padim")]
    cells = cells.assign(std=1.0)
    # Ours agrees with the paper by k-means and is 9 points off by masks: the other way round it would differ.
    kmeans = [scores_of(cell, [cell.mean] * 3, "ssdd_kmeans") for cell in cells.itertuples()]
    masks = [scores_of(cell, [cell.mean - 9] * 3, "ssdd") for cell in cells.itertuples()]
    found = ledger.ledger(cells, pd.concat(kmeans + masks))
    assert set(found["verdict"]) == {"reproduced"} and set(found["prepared"]) == {"ssdd_kmeans"}
    assert found["ours"].tolist() == pytest.approx(cells["mean"].tolist())
    assert found["ours_by_masks"].tolist() == pytest.approx((cells["mean"] - 9).tolist())
    # Prepared by masks alone it was not run as the paper did.
    found = ledger.ledger(cells, pd.concat(masks))
    assert set(found["verdict"]) == {"not run"} and found["ours_by_masks"].notna().all()


def test_the_ledger_has_all_three_readings_and_the_mask_prepared_number_apart():
    both = pd.concat([SCORES, made_up("ssdd", 3).assign(value=0.25)])
    frame = ledger.ledger(PAPER, both)
    row = frame.query("dataset == 'ssdd' and model == 'padim_ace' and level == 'image'").iloc[0]
    assert row["ours"] < row["ours_equation"] < row["ours_centred"]
    assert row["difference"] == pytest.approx(row["ours"] - 63.47)
    read = Read(ledger.draw(frame))
    assert len(read.rows) == 1 + 42
    heads, *lines = read.rows
    shown = dict(
        zip(heads, next(r for r in lines if r[:4] == ["PaDiM-ACE", "1", "SSDD", "image"]), strict=True)
    )
    assert shown["Paper"] == "63.47 ± 4.57" and shown["Here"] == f"{row['ours']:.2f} ± {row['ours_std']:.2f}"
    assert shown["Centred"] == f"{row['ours_centred']:.1f}"
    by_masks = frame.set_index(["dataset", "model"])["ours_by_masks"]
    assert (by_masks[[("ssdd", "padim"), ("ssdd", "padim_ace")]] == 25).all()
    assert by_masks.drop("ssdd", level=0).isna().all() and not any(
        "25.0" in cell for line in lines for cell in line
    )


def test_every_reason_of_the_ledger_stands_below_it():
    shown = ledger.draw(ledger.ledger(PAPER, SCORES))
    heads, *lines = Read(shown).rows
    verdicts = [line[heads.index("Verdict")] for line in lines]
    letters = {verdict[-2] for verdict in verdicts if verdict.endswith(")")}
    below = [item.partition(": ")[0] for item in shown.data.split("<li>")[1:]]
    assert letters and letters == set(below) and len(below) == len(letters)


def test_numbers_of_the_prose_are_those_of_the_ledger():
    numbers = ledger.numbers(PAPER, SCORES, ROOT / "results/paper")
    table = ledger.counts(ledger.ledger(PAPER, SCORES)).set_index("Table")
    assert table["Not run"].sum() == int(numbers["count_not_run"]) and table.to_numpy().sum() == 42
    assert table.loc["1, SSDD"].sum() == 8 and table.loc["1, MSTAR", "Not run"] == 4
    counts = [int(numbers[f"count_{word}"]) for word in ("reproduced", "inconclusive", "differs", "not_run")]
    assert sum(counts) == int(numbers["count_published"]) == 42


def test_every_name_in_the_prose_has_a_number():
    folder = ROOT / "results/paper"
    numbers = ledger.numbers(PAPER, read_scores(folder), folder)
    prose = "".join(path.read_text() for path in (ROOT / "book").glob("*.md"))
    named = {part.partition("}}")[0].strip() for part in prose.split("{{")[1:]}
    assert named and named <= set(numbers)


def test_readings_are_told_apart_by_their_titles():
    titles = [
        detector_title(detector)
        for detector in (PADIM, *(Detector(convention=c) for c in published.READING_TITLES))
    ]
    expected = ["PaDiM", "PaDiM-ACE, published code", "PaDiM-ACE, equation (1)", "PaDiM-ACE, centred"]
    assert titles == expected
    assert detector_title(Detector("glrt", "shared", signature="lace", channels="sar")) == (
        "Kelly's GLRT, LACE signature, SAR channels, shared background"
    )


def test_figures_take_the_pages_colour_and_have_words():
    figure = figures.paper_beside_ours({"SSDD": TABLE})
    text = figures.show(figure, 'dots & "bars"', "caption").data
    assert "currentColor" in text and figures.INK not in text
    assert 'role="img"' in text and "dots &amp; &quot;bars&quot;" in text
    assert "PaDiM-ACE, equation (1)" in text  # text stays text: it can be searched and read out


def test_a_figure_has_the_same_bytes_twice():
    one, two = (figures.svg(figures.paper_beside_ours({"SSDD": TABLE}), "alt") for _ in range(2))
    assert one == two


def test_localisation_page_counts_what_the_masks_touch(tmp_path):
    image, mask = np.zeros((2, 32, 32), np.uint8), np.zeros((2, 32, 32), bool)
    mask[:, 4:8, 4:8] = True
    heat = np.zeros((2, 32, 32), np.float32)
    heat[0, 5, 5] = 1.0  # found in the first image, missed in the second
    kept = {"image": image, "mask": mask, "names": ["anomalous/a.png", "anomalous/b.png"]}
    kept |= {"heat_padim": heat, "threshold_padim": 0.5, "heat_ace": -heat, "threshold_ace": 0.5}
    np.savez(tmp_path / "maps.npz", **kept)
    shown = figures.localisation_page(tmp_path / "maps.npz", "Test").data
    assert "1 of 2 images for PaDiM," in shown and "0 of 2 images for PaDiM-ACE, centred" in shown
