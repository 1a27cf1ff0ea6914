import base64
import io
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from padim_ace.experiment.results import COLUMNS
from padim_ace.paper import published
from padim_ace.report import figures, html_tables, tables

ROOT = Path(__file__).parents[2]
PAPER = published.read_published(ROOT / "book/published.csv")


def made_up(dataset="ssdd_kmeans", seeds=10, **changed):
    """Scores of PaDiM and of PaDiM-ACE's three readings, made up for these tests."""
    rng = np.random.default_rng(0)
    rows = []
    for detector, convention, base in (
        ("padim", "", 0.9),
        ("ace", "centred", 0.95),
        ("ace", "equation", 0.6),
        ("ace", "published", 0.5),
    ):
        for level in ("image", "pixel"):
            for seed in range(seeds):
                words = (dataset, "resnet18", detector, "full", "", "mean" if convention else "", convention)
                rows.append((*words, seed, level, "auroc", base + rng.uniform(0, 0.04)))
    return pd.DataFrame(rows, columns=list(COLUMNS)).assign(**changed)


SCORES = made_up()
TABLE = tables.compare(tables.table_settings(1), SCORES, "ssdd_kmeans", PAPER, 1)


def test_mean_and_spread_are_over_three_seeds_and_the_interval_over_all():
    values = {seed: value for seed, value in enumerate([90.0, 92.0, 97.0, 80.0, 81.0])}
    summary = tables.summarise(values)
    assert summary.mean == 93 and summary.std == pytest.approx(statistics.stdev([90, 92, 97]))
    low, high = stats.t.interval(
        0.95, 4, loc=np.mean(list(values.values())), scale=stats.sem(list(values.values()))
    )
    assert (summary.low, summary.high, summary.seeds) == (pytest.approx(low), pytest.approx(high), 5)
    assert tables.summarise({}) is None
    assert np.isnan(tables.summarise({0: 90.0}).std)


def test_compare_takes_each_number_from_its_own_rows():
    row = TABLE[(TABLE["label"] == "PaDiM") & (TABLE["level"] == "pixel")].iloc[0]
    ours = SCORES[(SCORES["detector"] == "padim") & (SCORES["level"] == "pixel") & (SCORES["seed"] < 3)]
    assert row["mean"] == pytest.approx(100 * ours["value"].mean())
    assert (row["paper_mean"], row["paper_std"]) == (93.65, 1.02)
    assert row["difference"] == pytest.approx(row["mean"] - 93.65)


def test_ssdd_prepared_by_masks_has_no_number_of_the_paper_beside_it():
    scores = made_up("ssdd")
    masks = tables.compare(tables.table_settings(1), scores, "ssdd", PAPER, 1)
    assert masks["paper_mean"].isna().all() and set(masks["verdict"]) == {""}
    assert masks["mean"].notna().all() and "DFM" not in set(masks["label"])
    read = Read(html_tables.to_html(masks, "caption"))
    assert read.rows[0] == ["Model", "Reading", "Image AUROC", "Pixel AUROC"]
    assert tables.in_words(masks).startswith("SSDD by masks: ") and "paper" not in tables.in_words(masks)


def test_metrics_other_than_auroc_do_not_enter():
    assert tables.compare(tables.table_settings(1), made_up(metric="ap"), "ssdd_kmeans").empty


def test_a_setting_that_was_not_run_has_one_line_and_says_why():
    dfm = TABLE[TABLE["label"] == "DFM"]
    assert list(dfm["level"]) == ["image", "pixel"] and dfm["mean"].isna().all()
    assert set(dfm["verdict"]) == {"not run"} and dfm["note"].str.contains("make book").all()
    nothing = tables.compare(tables.table_settings(2), SCORES.iloc[:0], "hrsid", PAPER, 2)
    assert list(nothing["label"]).count("MobileViT") == 2  # image and pixel, not once per reading


class Read(HTMLParser):
    """The cells of a table as a browser would read them."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.bold, self._in = [], set(), False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in = True
        elif tag == "strong" and self._in:
            self.bold.add((len(self.rows) - 1, len(self.rows[-1]) - 1))

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in = False

    def handle_data(self, data):
        if self._in:
            self.rows[-1][-1] += data


def test_the_best_of_each_column_is_bold():
    read = Read(html_tables.to_html(TABLE, "caption"))
    body = read.rows[2:]
    bold = {(body[row - 2][0], body[row - 2][1], column) for row, column in read.bold}
    assert bold == {
        ("PaDiM", "", 2),  # the paper's best image AUROC on SSDD, 68.97
        ("PaDiM-ACE", "centred", 3),
        ("PaDiM-ACE", "centred", 5),  # 94.25, which stands in each of its three readings
        ("PaDiM-ACE", "equation (1)", 5),
        ("PaDiM-ACE", "published code", 5),
        ("PaDiM-ACE", "centred", 6),
    }


def test_numbers_stand_under_their_heads_where_the_paper_has_one_level_only():
    scores = made_up("mstar")
    mstar = tables.compare(tables.table_settings(1), scores, "mstar", PAPER, 1)
    read = Read(html_tables.to_html(mstar, "caption"))
    assert read.rows[0] == ["Model", "Reading", "Image AUROC", "Pixel AUROC"]
    assert read.rows[1] == [
        "paper",
        "here",
        "difference",
    ]  # below image: the paper has no pixel AUROC of MSTAR
    row = next(row for row in read.rows[2:] if row[0] == "PaDiM")
    expected = mstar[mstar["label"] == "PaDiM"].set_index("level")
    assert row[2] == "98.76 ± 0.61"
    assert row[3].startswith(f"{expected.loc['image', 'mean']:.2f}")
    assert row[5].startswith(f"{expected.loc['pixel', 'mean']:.2f}") and len(row) == 6


def test_without_the_papers_numbers_there_is_one_column_a_level():
    read = Read(
        html_tables.to_html(tables.compare(tables.table_settings(1), SCORES, "ssdd_kmeans"), "caption")
    )
    assert read.rows[0] == ["Model", "Reading", "Image AUROC", "Pixel AUROC"]
    assert {len(row) for row in read.rows} == {4}


def test_a_row_that_does_not_fit_its_heads_is_refused():
    with pytest.raises(ValueError, match="2 cells"):
        html_tables.table_html([("a", []), ("b", [])], [[html_tables.Cell("1")]], "caption", TABLE, "name")


def test_verdicts_are_marked_by_more_than_colour():
    read = Read(html_tables.to_html(TABLE, "caption"))
    centred = next(row for row in read.rows if row[:2] == ["PaDiM-ACE", "centred"])
    assert centred[4].endswith("≠") and centred[7].endswith("✓")


def test_the_csv_download_is_the_table():
    text = html_tables.to_html(TABLE, "caption", name="table_1_ssdd")
    assert 'download="table_1_ssdd.csv"' in text
    csv = base64.b64decode(re.search(r"data:text/csv;base64,([^\"]+)", text)[1]).decode()
    back = pd.read_csv(io.StringIO(csv))
    assert list(back.columns) == list(TABLE.columns) and len(back) == len(TABLE)
    assert np.allclose(back["mean"].dropna(), TABLE["mean"].dropna().astype(float))


def test_words_in_a_table_are_escaped():
    assert "&lt;b&gt;" in html_tables.to_html(TABLE.assign(label="<b>"), "caption")


def test_the_ledger_has_the_papers_numbers_and_all_three_readings():
    ledger = tables.ledger(PAPER, SCORES)
    row = ledger[
        (ledger["dataset"] == "ssdd") & (ledger["model"] == "padim_ace") & (ledger["level"] == "image")
    ].iloc[0]
    assert row["ours_published"] < row["ours_equation"] < row["ours_centred"]
    assert row["difference"] == pytest.approx(row["ours_published"] - 63.47)
    read = Read(html_tables.ledger_html(ledger))
    assert len(read.rows) == 2 + 42
    heads = [*read.rows[0][:8], *read.rows[1]]
    shown = next(
        line for line in read.rows[2:] if line[1:4] == ["1", "SSDD", "image"] and line[0] == "PaDiM-ACE"
    )
    cells = dict(zip(heads, shown, strict=True))
    assert cells["Paper"] == "63.47 ± 4.57" and cells["Here"] == f"{row['ours_published']:.2f}"
    assert cells["centred"] == f"{row['ours_centred']:.2f}" and cells["masks"] == "–"


def test_the_ledger_shows_the_mask_prepared_number_apart():
    both = pd.concat([SCORES, made_up("ssdd", 3).assign(value=0.25)])
    read = Read(html_tables.ledger_html(tables.ledger(PAPER, both)))
    for line in read.rows[2:]:
        if line[2] == "SSDD" and line[0].startswith("PaDiM"):
            assert line[-1] == "25.00" and "25.00" not in line[:-1]
        else:
            assert line[-1] == "–"


def test_every_reason_of_the_ledger_stands_below_it():
    text = html_tables.ledger_html(tables.ledger(PAPER, SCORES))
    letters = set(re.findall(r"(?:differs|not run) \(([a-z])\)</td>", text))
    assert letters and letters == set(re.findall(r"<li>([a-z]): ", text))


def test_numbers_of_the_prose_are_those_of_the_table():
    numbers = tables.numbers(PAPER, SCORES)
    centred = TABLE[(TABLE["reading"] == "centred") & (TABLE["level"] == "image")].iloc[0]
    assert (
        numbers["ours_ssdd_kmeans_padim_ace_centred_image"] == f"{centred['mean']:.2f} ± {centred['std']:.2f}"
    )
    assert numbers["paper_mstar_padim_image"] == "98.76 ± 0.61"
    assert numbers["ours_mstar_padim_image"] == numbers["ours_ssdd_padim_image"] == "not run"
    counts = [int(numbers[f"count_{word}"]) for word in ("reproduced", "differs", "not_run")]
    assert sum(counts) == int(numbers["count_published"]) == 42


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
    np.savez(
        tmp_path / "maps.npz",
        image=image,
        mask=mask,
        names=["anomalous/a.png", "anomalous/b.png"],
        heat_padim=heat,
        threshold_padim=0.5,
        heat_ace=-heat,
        threshold_ace=0.5,
    )
    (shown,) = figures.localisation_page(tmp_path / "maps.npz", "Test")
    assert "1 of 2 images for PaDiM" in shown.data and "0 of 2 images for PaDiM-ACE" in shown.data


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(-1.5, ".1f", "−1.5"), (-0.001, "+.2f", "0.00"), (2, "+.0f", "+2"), (3, "d", "3")],
)
def test_numbers_have_a_true_minus_and_a_zero_has_no_sign(value, form, text):
    assert html_tables.number_text(value, form) == text


def test_a_frame_is_drawn_as_it_is_with_pairs_of_heads():
    columns = pd.MultiIndex.from_tuples(
        [("Class", ""), ("train", "normal"), ("train", "anomalous"), ("all", "")]
    )
    frame = pd.DataFrame([["T72", 3, 0.125, float("nan")]], columns=columns)
    html = html_tables.frame_html(frame, "caption", "name", ".1f")
    heads, body = html.split("</thead>")
    assert heads.count("<tr>") == 2 and 'colspan="2" scope="colgroup">train</th>' in heads
    assert re.findall(r">([^<>]+)</t[hd]>", body) == ["T72", "3", "0.1", "–"]
    csv = base64.b64decode(re.search(r"base64,([^\"]+)", body)[1]).decode()
    assert csv.splitlines() == ["Class,train normal,train anomalous,all", "T72,3,0.125,"]


def test_a_note_names_what_was_not_run_once():
    frame = tables.compare(tables.table_settings(2), SCORES, "hrsid", PAPER, 2)
    html = html_tables.to_html(frame, "caption")
    assert "<li>ConvNeXt V2 weights come from" in html
