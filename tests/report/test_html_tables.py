import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd

from padim_ace.report.html_tables import Cell, sources, sources_text, table


class Read(HTMLParser):
    """The cells of a table as a browser reads them; ``bold`` and ``titles`` by row and column."""

    def __init__(self, shown):
        super().__init__()
        self.rows, self.bold, self.titles, self._in = [], set(), {}, False
        self.feed(shown.data)

    @property
    def place(self):
        return len(self.rows) - 1, len(self.rows[-1]) - 1

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in = True
            if title := dict(attributes).get("title"):
                self.titles[self.place] = title
        elif tag == "strong" and self._in:
            self.bold.add(self.place)

    def handle_endtag(self, tag):
        self._in &= tag not in ("td", "th")

    def handle_data(self, data):
        if self._in:
            self.rows[-1][-1] += data


FRAME = pd.DataFrame(
    {
        "Model": ["<b>", "<b>"],
        "AUROC": [Cell("98.5 ± 0.2", bold=True, title='is "best"', kind="reproduced"), -1.25],
        ("train", "normal"): [3, 40],
        ("all", ""): [0.125, np.nan],
    }
)


def test_a_frame_is_drawn_as_it_is():
    read = Read(table(FRAME, "caption", "name", form=".1f"))
    assert read.rows[0] == ["Model", "AUROC", "train, normal", "all"]
    assert read.rows[1:] == [["<b>", "98.5 ± 0.2", "3", "0.1"], ["<b>", "−1.2", "40", "–"]]
    assert read.bold == {(1, 1)} and read.titles == {(1, 1): 'is "best"'}


def test_words_are_escaped_and_code_is_code():
    text = table(FRAME, "caption", "name", notes=["run `make <x>`", "run `make <x>`"]).data
    assert "&lt;b&gt;" in text and text.count("<li>run <code>make &lt;x&gt;</code></li>") == 1
    assert "<th" in text and 'class="row_heading' in text and "reproduced" in text


def csv(shown):
    return base64.b64decode(re.search(r"data:text/csv;base64,([^\"]+)", shown.data)[1]).decode()


def test_the_csv_is_the_frame_or_what_is_behind_it():
    shown = table(FRAME, "caption", "name")
    assert 'download="name.csv"' in shown.data
    assert csv(shown).splitlines()[:2] == ['Model,AUROC,"train, normal",all', "<b>,98.5 ± 0.2,3,0.125"]
    behind = pd.DataFrame({"value": [1 / 3]})
    back = pd.read_csv(io.StringIO(csv(table(FRAME, "caption", "name", data=behind))))
    assert back["value"].tolist() == [1 / 3]


def test_a_table_has_the_same_bytes_twice():
    assert table(FRAME, "caption", "name").data == table(FRAME, "caption", "name").data


def run(day, commit="21a1184" + 33 * "0", clean=True):
    return {"date": f"{day}T09:00:00Z", "sources": {"commit": commit, "sha256": 64 * "a", "clean": clean}}


def test_a_page_ends_with_the_days_the_commit_and_the_sources_of_its_numbers():
    made = "commit `21a1184`, sources `aaaaaaaaaaaa`"
    assert sources_text([run("2026-11-25")]) == f"Numbers of 2026-11-25: {made}."
    several = sources_text([run("2026-11-25"), run("2026-11-24"), run("2026-11-26", clean=False)])
    changed = "commit `21a1184` with changes that were not committed, sources `aaaaaaaaaaaa`"
    assert several == f"Numbers of 2026-11-24 to 2026-11-26: {made}; {changed}."
    assert "no commit, sources" in sources_text([run("2026-11-25", commit=None, clean=None)])
    assert "<code>21a1184</code>" in sources([run("2026-11-25")]).data
