"""Tables as HTML: they sort, scroll on a narrow page, print, and carry their data as a CSV download."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import pandas as pd

from padim_ace.experiment.results import read_json
from padim_ace.report.tables import AGGREGATIONS, BACKBONES, COVARIANCES, LEVELS, MODELS, mean_std

Head = tuple[str, Sequence[str]]
"""A column's head, and the heads of its parts if it has any."""


@dataclass(frozen=True)
class Cell:
    """A cell of an HTML table: what is read, what it sorts by, and what a pointer held over it says."""

    text: str
    order: float | str = ""
    bold: bool = False
    title: str = ""
    kind: str = ""


def to_html(frame: pd.DataFrame, caption: str, first: str = "Model", name: str = "table") -> str:
    """Draw a table of ``compare``, best of each column in bold, under ``caption``."""
    if frame.empty:
        return f"<p><strong>{caption}</strong>: not in these results.</p>"
    levels = [level for level in LEVELS if level in set(frame["level"])]
    with_paper = {
        level: bool(frame.loc[frame["level"] == level, "paper_mean"].notna().any()) for level in levels
    }
    with_reading = bool((frame["reading"] != "").any())
    heads: list[Head] = []
    heads += [(first, [])] + [("Reading", [])] * with_reading
    heads += [
        (LEVELS[level], ["paper", "here", "difference"] if with_paper[level] else []) for level in levels
    ]
    body, notes = [], []
    for (label, reading), group in frame.groupby(["label", "reading"], sort=False):
        line = [Cell(label, label)] + [Cell(reading, reading, kind="text")] * with_reading
        for level in levels:
            part = group[group["level"] == level]
            row = part.iloc[0] if len(part) else None
            line += _level_cells(row, frame[frame["level"] == level], with_paper[level])
        body.append(line)
        notes += [
            f"{note if note.startswith(label) else f'{label}: {note}'}." for note in group["note"] if note
        ]
    legend = f"{ALONE} {BESIDE}" if any(with_paper.values()) else ALONE
    return table_html(heads, body, f"<strong>{caption}.</strong> {legend}", frame, name, notes)


def _level_cells(row: pd.Series | None, column: pd.DataFrame, with_paper: bool) -> list[Cell]:
    """One row's cells of one level: paper, here, difference. ``column``: all rows of the level."""
    missing = Cell("–", -1.0)
    if row is None:
        return [missing] * (3 if with_paper else 1)
    published, here, difference = (
        missing,
        Cell("not run", -1.0, title=str(row["note"] or ""), kind="not-run"),
        missing,
    )
    if pd.notna(row["paper_mean"]):
        best = bool(row["paper_mean"] == column["paper_mean"].max())
        published = Cell(mean_std(row["paper_mean"], row["paper_std"]), float(row["paper_mean"]), best)
    if pd.notna(row["mean"]):
        best = bool(round(row["mean"], 2) == round(column["mean"].astype(float).max(), 2))
        here = Cell(mean_std(row["mean"], row["std"]), float(row["mean"]), best, title=interval_text(row))
    if pd.notna(row["difference"]):
        agrees = row["verdict"] == "reproduced"
        text = f"{row['difference']:+.2f} {'✓' if agrees else '≠'}".replace("-", "−")
        title = f"{row['verdict']}: the difference is to be within ±{row['tolerance']:.2f}"
        difference = Cell(text, float(row["difference"]), title=title, kind=str(row["verdict"]))
    return [published, here, difference] if with_paper else [here]


def table_html(
    heads: Sequence[Head],
    body: Sequence[Sequence[Cell]],
    caption: str,
    data: pd.DataFrame,
    name: str,
    notes: Iterable[str] = (),
) -> str:
    """An HTML table that sorts, with its caption, notes, and ``data`` as CSV (in the page itself).

    Raises
    ------
    ValueError
        If a row has more or fewer cells than there are heads: its numbers would stand under wrong names.
    """
    width = sum(len(parts) or 1 for _, parts in heads)
    if any(len(line) != width for line in body):
        raise ValueError(f"{name}: expected {width} cells below the heads, found a row of another length")
    lines = ["<tr>" + "".join(_cell_html(cell, i) for i, cell in enumerate(line)) + "</tr>" for line in body]
    csv = base64.b64encode(data.to_csv(index=False, lineterminator="\n").encode()).decode()
    listed = "".join(f"<li>{_with_code(note)}</li>" for note in dict.fromkeys(notes))
    return (
        f'<figure class="results-table"><figcaption>{caption}</figcaption>'
        f'<div class="table-scroll" tabindex="0" role="region" aria-label="{html.escape(name)}">'
        f'<table class="results sortable"><thead>{_heads_html(heads)}</thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
        f'<div class="table-notes"><a class="csv" download="{name}.csv" href="data:text/csv;base64,{csv}">'
        f"Download as CSV</a>{f'<ul>{listed}</ul>' if listed else ''}</div></figure>"
    )


def frame_html(frame: pd.DataFrame, caption: str, name: str, form: str = ".2f") -> str:
    """A frame as it is, as an HTML table with its CSV: words and whole numbers in full, others by ``form``.

    The columns' names are the heads; where they are pairs, the second is a part of the first, or empty.
    """
    pairs = [column if isinstance(column, tuple) else (column, "") for column in frame.columns]
    parts: dict[str, list[str]] = {}
    for first, second in pairs:
        parts.setdefault(first, []).extend([second] if second else [])
    body = [[_plain(value, form) for value in row] for row in frame.itertuples(index=False, name=None)]
    data = frame.set_axis([" ".join(pair).strip() for pair in pairs], axis=1)
    return table_html(list(parts.items()), body, caption, data, name)


def _plain(value: Any, form: str) -> Cell:
    if isinstance(value, str):
        return Cell(value, value, kind="text")
    return _number(value, "d" if isinstance(value, Integral) else form)


def _heads_html(heads: Sequence[Head]) -> str:
    """One row of heads, or two where some have parts; ``data-column`` marks those that sort."""
    rows, column = ["", ""], 0
    deep = any(parts for _, parts in heads)
    for text, parts in heads:
        span = f' colspan="{len(parts)}" scope="colgroup"' if parts else ' scope="col"'
        span += ' rowspan="2"' if deep and not parts else ""
        sorts = "" if parts else f' data-column="{column}"'
        rows[0] += f"<th{span}{sorts}>{html.escape(text)}</th>"
        for part in parts:
            rows[1] += f'<th scope="col" data-column="{column}">{html.escape(part)}</th>'
            column += 1
        column += not parts
    return "".join(f"<tr>{row}</tr>" for row in rows if row)


def _with_code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _cell_html(cell: Cell, place: int) -> str:
    tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
    title = f' title="{html.escape(cell.title)}"' if cell.title else ""
    kind = f' class="{cell.kind}"' if cell.kind else ""
    order = f' data-order="{html.escape(str(cell.order))}"'
    text = _with_code(cell.text)
    return f"<{tag}{scope}{order}{kind}{title}>{f'<strong>{text}</strong>' if cell.bold else text}</{tag}>"


def interval_text(row: Any) -> str:
    """The 95 % interval of a mean in words, or how many seeds there are when one has no interval."""
    if pd.isna(row["low"]):
        return f"{row['seeds']} seed"
    return f"95 % t-interval of the mean over {row['seeds']} seeds: {row['low']:.2f} to {row['high']:.2f}"


ALONE = (
    "Mean ± standard deviation over three seeds, in percent; the best of a column in bold. Hold the pointer "
    "over a number for its 95 % interval over all seeds; the CSV holds everything."
)
BESIDE = "✓: the difference is within two standard errors of the two means, ≠: it is not."


def ledger_html(frame: pd.DataFrame) -> str:
    """Draw a ``ledger`` as a sortable table; its reasons are lettered below it."""
    heads: list[Head] = [(name, []) for name in ("Detector", "Table", "Dataset", "AUROC", "Paper", "Here")]
    heads += [("Difference", []), ("Verdict", [])]
    heads += [("Also here", ["equation (1)", "centred", "masks"])]
    body: list[list[Cell]] = []
    letters: dict[str, str] = {}
    for _, row in frame.iterrows():
        varied = {2: BACKBONES[row["backbone"]], 3: COVARIANCES.get(row["covariance"], "")}
        varied |= {4: AGGREGATIONS.get(row["aggregation"], "")}
        detector = ", ".join(filter(None, (MODELS[row["model"]], varied.get(row["table"], ""))))
        texts = [detector, str(row["table"]), row["dataset"].upper(), row["level"]]
        line = [Cell(text, text, kind="text") for text in texts]
        line.append(Cell(mean_std(row["mean"], row["std"]), row["mean"]))
        here = row["ours_published"] if row["model"] == "padim_ace" else row["ours_model"]
        line += [_number(here), _number(row["difference"], "+.2f")]
        mark = {"reproduced": "✓\N{NO-BREAK SPACE}", "differs": "≠\N{NO-BREAK SPACE}"}.get(row["verdict"], "")
        why = letters.setdefault(row["note"], chr(ord("a") + len(letters))) if row["note"] else ""
        verdict = f"{mark}{row['verdict']}" + (f" ({why})" if why else "")
        kind = f"text {row['verdict'].replace(' ', '-')}"
        line.append(Cell(verdict, row["verdict"], title=row["note"], kind=kind))
        line += [_number(row[f"ours_{name}"]) for name in ("equation", "centred", "by_masks")]
        body.append(line)
    counts = frame["verdict"].value_counts()
    summary = ", ".join(
        f"{counts.get(word, 0)} {said}"
        for word, said in (("reproduced", "reproduced"), ("differs", "differ"), ("not run", "not run"))
    )
    notes = [f"{letter}: {note}." for note, letter in letters.items()]
    return table_html(heads, body, f"The paper's {len(frame)} numbers: {summary}.", frame, "ledger", notes)


def number_text(value: float, form: str = ".2f") -> str:
    """A number as text, with a true minus sign, and with none before a zero."""
    text = format(value, form)
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _number(value: Any, form: str = ".2f") -> Cell:
    return Cell("–", -1e3) if pd.isna(value) else Cell(number_text(value, form), float(value))


def provenance_html(results: Path | str) -> str:
    """What a page's numbers rest on (data, weights, versions, device, seeds, time), folded away."""
    runs = read_json(Path(results) / "provenance.json").get("runs", {})
    rows = []
    for name, run in sorted(runs.items()):
        inputs = "; ".join(
            f"{role} {html.escape(value['file'])} <code>{value['sha256'][:12]}</code>"
            for role, value in run["inputs"].items()
        )
        seeds = run["parameters"].get("seeds", "")
        rows.append(
            f"<tr><th scope='row'>{html.escape(name)}</th><td>{inputs}</td><td>{html.escape(str(seeds))}</td>"
            f"<td>{html.escape(run['device'])} ({html.escape(run.get('device_name', ''))})</td>"
            f"<td>{run['seconds']:.0f} s</td><td>{run['date'][:10]}</td></tr>"
        )
    versions: dict[str, str] = next((run["versions"] for run in runs.values()), {})
    listed = ", ".join(f"{html.escape(name)} {html.escape(version)}" for name, version in versions.items())
    heads = "".join(
        f"<th scope='col'>{head}</th>"
        for head in ("Run", "Inputs (SHA-256)", "Seeds", "Device", "Time", "Date")
    )
    return (
        f'<details class="provenance"><summary>Provenance of these numbers ({len(runs)} runs)</summary>'
        '<div class="table-scroll" tabindex="0" role="region" aria-label="provenance"><table class="results">'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div><p>{listed}</p></details>"
    )
