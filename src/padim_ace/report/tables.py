"""The paper's tables with our numbers beside them. All numbers here are in percent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
from IPython.display import HTML

from padim_ace.detect.detector import PADIM, RECOMMENDED, UNSUPERVISED, Detector
from padim_ace.detect.registry import BACKBONES, COVARIANCES, RANDOM
from padim_ace.experiment.baselines import BASELINES
from padim_ace.paper import published as paper
from padim_ace.paper.detectors import PADIM_ACE
from padim_ace.report.html_tables import Cell, table
from padim_ace.report.summary import select, spread_text, summarise
from padim_ace.report.titles import backbone_title, dataset_title, detector_words

LEVELS = {"image": "Image AUROC", "pixel": "Pixel AUROC"}
DIMENSIONS = {1: "Model", 2: "Backbone", 3: "Covariance", 4: "Aggregation", 0: "Detector"}
"""What the rows of each of the paper's tables are told apart by; 0 is the demo's."""


@dataclass(frozen=True)
class Setting:
    """A row of a table: its labels, our detector, and the paper's name for it, if it has one."""

    label: str
    reading: str
    detector: Detector | str
    """A detector of ours, or the name of a baseline."""
    backbone: str
    model: str = ""
    aggregation: str = ""
    """The paper's, where only its number tells this row from another."""

    def row(self) -> dict[str, str]:
        """The columns of ``scores.csv`` that pick its numbers."""
        return {"backbone": self.backbone, **row_of(self.detector)}


def row_of(detector: Detector | str) -> dict[str, str]:
    """The columns of ``scores.csv`` that name a detector or, given its name, a baseline."""
    if isinstance(detector, Detector):
        return detector.row()
    return dict.fromkeys(PADIM.row(), "") | {"detector": detector, "smoothing": BASELINES[detector].smoothing}


def _setting(detector: Detector | str, backbone: str, label: str = "", **more: str) -> Setting:
    if isinstance(detector, str):
        words = (BASELINES[detector].title, BASELINES[detector].about)
        return Setting(*words, detector, BASELINES[detector].backbone, **more)
    words = detector_words(detector)
    return Setting(label or words[0], words[1], detector, backbone, **more)


def table_settings(number: int, backbone: str = paper.BACKBONE) -> list[Setting]:
    """The rows of one of the paper's tables, ours beside it included; 0 is the table of the demo."""
    readings = [replace(PADIM_ACE, convention=convention) for convention in reversed(paper.READING_TITLES)]
    ace: dict[str, str] = {"model": "padim_ace"}
    if number == 2:
        names = [name + suffix for name in BACKBONES for suffix in ("", RANDOM)]
        padim = {name: Setting(backbone_title(name), paper.MODELS["padim"], PADIM, name) for name in names}
        rows = {name: [_setting(d, name, backbone_title(name), **ace) for d in readings] for name in names}
        return [setting for name in names for setting in (*rows[name], padim[name])]
    if number == 3:
        return [
            _setting(replace(d, covariance=kind), backbone, title, **ace)
            for kind, title in COVARIANCES.items()
            for d in readings
        ]
    if number == 4:  # the paper's four are one detector
        isotropic = [replace(d, covariance="isotropic") for d in readings]
        four = paper.AGGREGATIONS.items()
        return [
            *(_setting(isotropic[-1], backbone, title, aggregation=name, **ace) for name, title in four),
            *(_setting(d, backbone, "Any") for d in isotropic),
        ]
    baselines = [_setting(name, "", model=name) for name in ("dfm", "winclip")] if number else []
    return [
        *(_setting(d, backbone, **ace) for d in readings),
        _setting(PADIM, backbone, model="padim"),
        *baselines,
        *(_setting(d, backbone) for d in ([] if number else (UNSUPERVISED, RECOMMENDED))),
        *(_setting(name, "") for name in BASELINES if name not in ("dfm", "winclip")),
    ]


def compare(
    settings: Iterable[Setting],
    scores: pd.DataFrame,
    dataset: str,
    *,
    published: pd.DataFrame | None = None,
    number: int = 0,
    protocol: str = "paper",
    not_run: paper.Reasons | None = None,
) -> pd.DataFrame:
    """Line up published and reproduced numbers of one dataset, in percent.

    The paper's side is that of the dataset which was prepared as the paper says
    (``padim_ace.paper.published.PREPARED``), and empty for another. Settings of which neither side has a
    number are left out.

    Returns:
        One row per setting and level: label, reading, the paper's mean and std, ours over all seeds and the
        95 % interval of the mean, the verdict with its difference and 90 % interval, and a note. What one
        side does not have is NaN.
    """
    cells = pd.DataFrame() if published is None else published[published["table"] == number]
    rows = []
    for setting in settings:
        for level in LEVELS:
            where = {**setting.row(), "dataset": dataset, "level": level, "metric": "auroc"}
            backbone, weights = paper.backbone_at_hand(where["backbone"], scores)
            values = select(scores, protocol=protocol, **where | {"backbone": backbone})
            cell = _published_cell(cells, setting, where) if setting.model else None
            if cell is not None or (len(values) and not setting.aggregation):
                rows.append(_compared(setting, where, cell, values, not_run or {}))
                rows[-1] |= {"backbone": backbone, "note": rows[-1]["note"] or weights}
    frame = pd.DataFrame(rows, columns=None if rows else ["label", "reading", "level"])
    return frame.drop_duplicates(["label", "reading", "level"], ignore_index=True)


def of_the_paper(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a :func:`compare` table that the paper has too, its detector as its program computes it,
    without the reasons why some were not run."""
    others = [title for name, title in paper.READING_TITLES.items() if name != "published"]
    return frame[frame["paper_mean"].notna() & ~frame["reading"].isin(others)].assign(note="")


def _published_cell(cells: pd.DataFrame, setting: Setting, where: Mapping[str, str]) -> Any:
    if cells.empty or where["dataset"] not in paper.IN_PAPER:
        return None
    sought = {"dataset": paper.IN_PAPER[where["dataset"]], "model": setting.model, "level": where["level"]}
    sought |= {name: where[name] for name in ("backbone", "covariance")}
    sought |= {"aggregation": setting.aggregation} if setting.aggregation else {}
    rows = cells[(cells[list(sought)] == list(sought.values())).all(axis=1)]
    return SimpleNamespace(**rows.iloc[0].to_dict()) if len(rows) else None


def judgement(judged: paper.Verdict) -> dict[str, Any]:
    """The columns of a verdict."""
    columns = {"difference": judged.difference, "difference_half": judged.half}
    return {**columns, "verdict": judged.word, "would_decide": judged.would_decide}


def _compared(
    setting: Setting, where: Mapping[str, str], cell: Any, values: pd.Series, not_run: paper.Reasons
) -> dict[str, Any]:
    ours, judged = summarise(values), paper.Verdict("not run")
    if cell is not None:
        judged = paper.verdict(cell.mean, cell.std, values, cell.level)
    idle = cell is not None and not len(values)  # has one line, not one per reading
    return {
        "dataset": where["dataset"],
        "label": setting.label,
        "reading": "" if idle else setting.reading,
        "backbone": where["backbone"],
        "level": where["level"],
        "metric": where["metric"],
        "paper_mean": float("nan") if cell is None else cell.mean,
        "paper_std": float("nan") if cell is None else cell.std,
        **ours._asdict(),
        **judgement(judged),
        "verdict": "" if cell is None else judged.word,
        "note": paper.why_not_run(cell, not_run) if idle else "",
    }


WITHIN = "±{image:g} points of image and ±{pixel:g} of pixel AUROC".format_map(paper.MARGINS)
LEGEND = (
    "Mean ± standard deviation over the seeds, in percent (the paper's: over three runs); the highest mean "
    "of a column in bold. Hold the pointer over a number for the 95 % interval of the mean. A difference "
    f"stands with its 90 % interval: ✓ it lies within {WITHIN}, ≠ it does not and excludes zero, ~ neither."
)
"""What stands once on a page of tables."""
MARKS = {"reproduced": "✓", "inconclusive": "~", "differs": "≠"}


def draw(frame: pd.DataFrame, caption: str, name: str, number: int = 0) -> HTML:
    """Draw a table of :func:`compare`, the best of each column in bold."""
    if frame.empty:
        return HTML(f"<p><strong>{caption}</strong>: not in these results.</p>")
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for level, title in LEVELS.items():
        column = frame[frame["level"] == level]
        beside = column["paper_mean"].notna().any()
        for row in column.itertuples(index=False):
            line = lines.setdefault((row.label, row.reading), {})
            line |= {DIMENSIONS[number]: row.label, "Reading": row.reading}
            if beside:
                best = bool(row.paper_mean == column["paper_mean"].max())
                line[f"{title}, paper"] = Cell(spread_text(row.paper_mean, row.paper_std), best)
            best = bool(round(row.mean, 2) == round(column["mean"].max(), 2))
            line[f"{title}, here" if beside else title] = _here(row, best)
            if beside:
                line[f"{title}, difference"] = difference_cell(row)
    notes = [
        f"{row.note if row.note.startswith(row.label) else f'{row.label}: {row.note}'}."
        for row in frame.itertuples(index=False)
        if row.note
    ]
    caption = f"<strong>{caption}</strong>"
    return table(pd.DataFrame(lines.values()), caption, name, notes=notes, data=frame)


def _here(row: Any, best: bool) -> Cell:
    if pd.isna(row.mean):
        return Cell("not run", title=row.note, kind="not-run")
    ends = f"{row.mean - row.half:.2f} to {row.mean + row.half:.2f}"
    title = f"95 % interval of the mean over {row.seeds} seeds, corrected for their overlap: {ends}"
    return Cell(spread_text(row.mean, row.std), best, title if row.seeds > 1 else "1 seed")


def difference_cell(row: Any) -> Cell:
    """A row's difference to the paper with its 90 % interval, and the mark of the verdict."""
    if pd.isna(row.difference):
        return Cell("–")
    text = f"{spread_text(row.difference, row.difference_half, '+.1f')} {MARKS[row.verdict]}"
    would = f"; {row.would_decide} would decide" if row.would_decide else ""
    return Cell(text, title=f"{row.verdict}{would}", kind=row.verdict)


def in_words(frame: pd.DataFrame) -> str:
    """A :func:`compare` table as sentences, for those who can't see its figure."""
    said = []
    for row in frame.itertuples(index=False):
        sides = {"paper": row.paper_mean, "here": row.mean}
        values = [f"{who} {value:.1f}" for who, value in sides.items() if pd.notna(value)]
        said.append(f"{f'{row.label} {row.reading}'.strip()}, {row.level}: {', '.join(values)}.")
    return f"{dataset_title(frame['dataset'].iloc[0])}: {' '.join(said)}" if said else ""
