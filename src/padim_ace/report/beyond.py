"""Beyond the paper: which detector beats PaDiM, by how much, and with what supervision. All in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from padim_ace.detect.detector import PADIM, Detector
from padim_ace.detect.registry import BACKGROUNDS, SIGNATURES, STATISTICS
from padim_ace.experiment.results import NAMES
from padim_ace.report.figures import COLOURS, INK, STYLE, panels
from padim_ace.report.html_tables import Cell, table
from padim_ace.report.summary import Summary, gain, select, spread_text, summarise
from padim_ace.report.titles import background_words, dataset_title

Column = tuple[str, str, str]
"""A dataset, a level and a metric."""
AUROC: list[Column] = [
    ("mstar", "image", "auroc"),
    ("hrsid", "image", "auroc"),
    ("hrsid", "pixel", "auroc"),
    ("ssdd", "image", "auroc"),
    ("ssdd", "pixel", "auroc"),
]
"""The columns of the paper's Table 1."""


def column_title(column: Sequence[str]) -> str:
    """What a column is called; AUROC goes without saying."""
    dataset, level, metric = column
    metric = {"auroc": "", "ap": "AP", "aupro": "AUPRO"}[metric]
    return f"{dataset_title(dataset)}, {metric or level}"


def supervision(signature: str) -> str:
    """What has to be known of the training images."""
    return SIGNATURES[signature].supervision if signature else "normal images"


def detectors(scores: pd.DataFrame) -> list[Detector]:
    """The detectors of this chapter: with full covariance, as they are meant, whatever their signature."""
    rows = scores.loc[
        scores["detector"].isin(STATISTICS)
        & (scores["covariance"] == "full")
        & scores["convention"].isin(["", "centred"]),
        list(NAMES),
    ].drop_duplicates()
    order = [*STATISTICS, "", *SIGNATURES, *BACKGROUNDS]
    names = [Detector(*words) for words in rows.itertuples(index=False, name=None)]
    return sorted(
        names, key=lambda d: [order.index(word) for word in (d.statistic, d.signature, d.background)]
    )


def comparison(scores: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """Every detector of the chapter in every column.

    Args:
        scores: of one backbone, with the columns of ``scores.csv``.
        columns: what to compare; detectors without a value in a column have no row there.

    Returns:
        One row per detector and column: mean over the seeds and ``half`` the width of its 95 % interval,
        ``gain`` over PaDiM on the same seeds and ``gain_half``, and whether it ``wins`` or ``loses`` by more.
    """
    rows = []
    for detector in detectors(scores):
        for column in columns:
            at = dict(zip(("dataset", "level", "metric"), column, strict=True))
            ours, padim = (select(scores, **at, **d.row()) for d in (detector, PADIM))
            mean, _, half, seeds = summarise(ours)
            ahead = gain(ours, padim)
            row = {**detector.row(), **at, "mean": mean, "half": half, "gain": ahead.mean}
            row |= {"gain_half": ahead.half, "wins": ahead.above, "loses": ahead.below, "seeds": seeds}
            rows += [row] if len(ours) and len(padim) else []
    return pd.DataFrame(rows)


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))


def comparison_table(frame: pd.DataFrame, caption: str, name: str) -> HTML:
    """Draw a :func:`comparison`, the best of a column in bold, ▲ where it wins and ▼ where it loses."""
    best = frame.groupby(["dataset", "level", "metric"])["mean"].max()
    lines: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in frame.itertuples(index=False):
        line = lines.setdefault((row.detector, row.background, row.signature), {})
        line |= {
            "Detector": _joined(STATISTICS[row.detector].title, background_words(row.background)),
            "Signature": row.signature or "–",
        }
        line["Supervision"] = supervision(row.signature)
        column = (row.dataset, row.level, row.metric)
        mark = "\N{THIN SPACE}▲" * row.wins + "\N{THIN SPACE}▼" * row.loses
        text = spread_text(row.mean, row.half, ".1f") + mark
        gained = spread_text(row.gain, row.gain_half, "+.2f")
        title = f"{gained} over PaDiM on the same {row.seeds} seeds"
        line[column_title(column)] = Cell(text, bool(row.mean == best[column]), title)
    return table(pd.DataFrame(lines.values()), caption, name, data=frame)


def wins(frame: pd.DataFrame) -> pd.DataFrame:
    """In how many columns each detector is above PaDiM by more than the interval, and below it; most wins
    first. What is best in each column was picked by the test images; a row of this table was not."""
    names = ["detector", "background", "signature"]
    rows = frame[frame["signature"] != ""].groupby(names, sort=False)[["wins", "loses"]].agg(["sum", "size"])
    counts = pd.DataFrame(
        {
            "Detector": [_joined(STATISTICS[d].title, s, background_words(b)) for d, b, s in rows.index],
            "Supervision": [supervision(s) for *_, s in rows.index],
            "above PaDiM": rows["wins", "sum"].to_numpy(),
            "below": rows["loses", "sum"].to_numpy(),
            "of": rows["wins", "size"].to_numpy(),
        }
    )
    return counts.sort_values(["above PaDiM", "below"], ascending=[False, True], ignore_index=True)


def selection_table(selection: pd.DataFrame, caption: str, name: str) -> HTML:
    """Draw the rows of ``selection.csv``: how many seeds chose each number, by dataset."""
    kinds = {"mined": "patches mined", "subspace": "dimensions"}
    counts = selection.pivot_table("chosen", "dataset", ["signature", "number"], aggfunc="sum", sort=True)
    heads = [f"{number} {kinds[kind]}" for kind, number in counts]
    frame = counts.set_axis(heads, axis=1).astype(int)
    frame.insert(0, "Dataset", [dataset_title(dataset) for dataset in frame.index])
    return table(frame, caption, name)


def gain_figure(frame: pd.DataFrame) -> tuple[Figure, str]:
    """Gain of ACE and of Kelly's statistic over PaDiM by signature, background per patch; and in words.

    ``frame`` is a :func:`comparison`; a panel per column of it. The paper's mean signature would leave no
    room for the others.
    """
    drawn = [signature for signature in SIGNATURES if signature != "mean"]
    looks = {"ace": (COLOURS[0], "o", -0.15), "glrt": (COLOURS[1], "s", 0.15)}
    frame = frame[(frame["background"] == "patch") & frame["signature"].isin(drawn)]
    said = []
    with plt.rc_context(STYLE):
        columns = list(dict.fromkeys(zip(frame["dataset"], frame["level"], frame["metric"], strict=True)))
        figure, axes = panels([column_title(column) for column in columns], 3, 2.1, sharex=False)
        for place, (axis, column) in enumerate(zip(axes, columns, strict=True)):
            rows = frame[(frame[["dataset", "level", "metric"]] == column).all(axis=1)]
            axis.axvline(0, lw=1, color=INK)
            for statistic, (colour, marker, shift) in looks.items():
                part = rows[rows["detector"] == statistic]
                title = STATISTICS[statistic].title
                axis.errorbar(
                    part["gain"], [drawn.index(signature) + shift for signature in part["signature"]],
                    xerr=part["gain_half"], fmt=marker, ms=5, lw=1.3, capsize=2, color=colour, label=title,
                )  # fmt: skip
                listed = ", ".join(f"{row.signature} {row.gain:+.2f}" for row in part.itertuples())
                said.append(f"{column_title(column)}, {title}: {listed}.")
            axis.set_yticks(range(len(drawn)), drawn if place % 3 == 0 else [""] * len(drawn))
            axis.set_ylim(len(drawn) - 0.5, -0.5)
            axis.set_xlabel("gain, points")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure, "Gain of AUROC over PaDiM in points, by signature. " + " ".join(said)


def by_images(few: pd.DataFrame, scores: pd.DataFrame, column: Column) -> dict[str, tuple[Summary, Summary]]:
    """ACE with a mined signature by the number of anomalous images that make it: AUROC, and gain over PaDiM.

    Args:
        few: the rows of ``supervision.csv`` of one backbone.
        scores: the rows of ``scores.csv``: with all images, and PaDiM.
        column: where.
    """
    at = dict(zip(("dataset", "level", "metric"), column, strict=True))
    mined = Detector(signature="mined").row()
    counts = sorted(map(int, few["images"].unique()))
    values = {str(n): select(few, **at, **mined, images=n) for n in counts}
    values["all"] = select(scores, **at, **mined)
    padim = select(scores, **at, **PADIM.row())
    return {n: (summarise(ours), gain(ours, padim)) for n, ours in values.items()}


def supervision_figure(few: pd.DataFrame, scores: pd.DataFrame, columns: Sequence[Column]) -> Figure:
    """AUROC by the number of anomalous images that make the signature, PaDiM's as a line."""
    with plt.rc_context(STYLE):
        figure, axes = panels([column_title(column) for column in columns], 3, 2.3, sharex=False)
        for place, (axis, column) in enumerate(zip(axes, columns, strict=True)):
            at = dict(zip(("dataset", "level", "metric"), column, strict=True))
            padim = summarise(select(scores, **at, **PADIM.row()))
            axis.axhline(padim.mean, color=COLOURS[1], lw=1.4, label="PaDiM")
            edges = (padim.mean - padim.half, padim.mean + padim.half)
            axis.axhspan(*edges, color=COLOURS[1], alpha=0.2, lw=0)
            ours = by_images(few, scores, column)
            means, halves = zip(*((one.mean, one.half) for one, _ in ours.values()), strict=True)
            look = {"marker": "o", "ms": 5, "lw": 1.3, "capsize": 2, "color": COLOURS[0]}
            axis.errorbar(range(len(ours)), means, halves, label="ACE, mined", **look)
            axis.set_xticks(range(len(ours)), ours)
            axis.set_xlabel("anomalous images")
            if place % 3 == 0:
                axis.set_ylabel("AUROC, %")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure
