"""Tables of a page: pandas writes them, DataTables makes them sort (``book/_static/tables.js``).

They are whole without a script, scroll on a narrow page, print, and carry their data as a CSV download.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from padim_ace.experiment.results import read_json
from padim_ace.report.summary import number_text


@dataclass(frozen=True)
class Cell:
    """A cell of a table. It sorts by the number that its text begins with, or else by its text."""

    text: str
    bold: bool = False
    title: str = ""
    """What a pointer held over it says."""
    kind: str = ""
    """Its class in the style sheet."""

    def __str__(self) -> str:
        """Its text as HTML; what stands between backticks is code."""
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(self.text))
        return f"<strong>{text}</strong>" if self.bold else text


def table(
    frame: pd.DataFrame,
    caption: str,
    name: str,
    *,
    form: str = ".2f",
    notes: Iterable[str] = (),
    data: pd.DataFrame | None = None,
) -> HTML:
    """Draw a frame: its columns' names are the heads, its first column is the heads of the rows.

    Args:
        frame: words, numbers and :class:`Cell` objects.
        caption: stands above the table, as HTML.
        name: names the CSV file, and the table to screen readers; unique on a page.
        form: how numbers that are not whole are written.
        notes: stand below the table, each once.
        data: what the CSV file holds, if not ``frame``.
    """
    heads = [", ".join(filter(None, head)) if isinstance(head, tuple) else head for head in frame]
    frame = frame.set_axis(heads, axis=1).reset_index(drop=True)
    cells = frame.map(lambda value: _cell(value, form))
    body = cells.iloc[:, 1:].rename_axis(columns=heads[0])
    styler = Styler(body, uuid=name, table_attributes='class="results"')
    styler.format(str).format_index(lambda row: str(cells.iloc[row, 0])).format_index(axis=1, escape="html")
    styler.set_td_classes(body.map(lambda cell: cell.kind))
    styler.set_tooltips(body.map(lambda cell: html.escape(cell.title)), as_title_attribute=True)
    plain = frame.map(lambda value: value.text if isinstance(value, Cell) else value)
    listed = "".join(f"<li>{Cell(note)}</li>" for note in dict.fromkeys(notes))
    listed = f'<ul class="table-notes">{listed}</ul>' if listed else ""
    return HTML(
        f'<figure class="results-table"><figcaption>{caption}</figcaption>'
        f'<div class="table-scroll" tabindex="0" role="region" aria-label="{html.escape(name)}">'
        f"{styler.to_html()}</div>{listed}{csv_link(plain if data is None else data, name)}</figure>"
    )


def csv_link(frame: pd.DataFrame, name: str) -> str:
    """What stands below a table or figure: its data as a CSV file; the page adds the lines that made it."""
    rows = base64.b64encode(frame.to_csv(index=False, lineterminator="\n").encode()).decode()
    data = f"data:text/csv;base64,{rows}"
    return f'<p class="made-by"><a class="csv" download="{name}.csv" href="{data}">CSV</a></p>'


def _cell(value: Any, form: str) -> Cell:
    if isinstance(value, Cell):
        return value
    if isinstance(value, str):
        return Cell(value, kind="text")
    return Cell(number_text(value, "d" if isinstance(value, Integral) else form))


def sources_text(runs: Iterable[Mapping[str, Any]]) -> str:
    """When numbers were made and by which code, in a sentence; ``runs`` is of ``provenance.json``."""
    days, made = set(), []
    for run in runs:
        days.add(run["date"][:10])
        found = run["sources"]
        commit = f"commit `{found['commit'][:7]}`" if found["commit"] else "no commit"
        changed = " with changes that were not committed" if found["clean"] is False else ""
        made.append(f"{commit}{changed}, sources `{found['sha256'][:12]}`")
    when = " to ".join(sorted({min(days), max(days)}))
    return f"Numbers of {when}: {'; '.join(dict.fromkeys(made))}."


def sources(runs: Iterable[Mapping[str, Any]]) -> HTML:
    """The last line of a page that shows numbers: :func:`sources_text`."""
    return HTML(f'<p class="sources">{Cell(sources_text(runs))}</p>')


def provenance(results: Path | str) -> HTML:
    """What a page's numbers rest on (data, weights, versions, device, seeds, time) folded away, and its last
    line.
    """
    rivals = Path(results) / "rivals.json"
    runs = read_json(Path(results) / "provenance.json")["runs"]
    runs |= read_json(rivals)["runs"] if rivals.is_file() else {}
    rows = [
        {
            "Run": name,
            "Inputs (SHA-256)": "; ".join(
                f"{role} {file['file']} `{file['sha256'][:12]}`" for role, file in run["inputs"].items()
            ),
            "Seeds": str(run["parameters"].get("seeds", "")),
            "Device": f"{run['device']} ({run.get('device_name', '')})",
            "Time": f"{run['seconds']:.0f} s",
            "Date": run["date"][:10],
        }
        for name, run in sorted(runs.items())
    ]
    versions: dict[str, str] = next((run["versions"] for run in runs.values()), {})
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    drawn = table(pd.DataFrame(rows), html.escape(listed), "provenance")
    summary = f"<summary>Provenance of these numbers ({len(runs)} runs)</summary>"
    last = sources(runs.values()).data
    return HTML(f'<details class="provenance">{summary}{drawn.data}</details>{last}')
