"""The tables and figures of the chapter beyond the paper, from what :mod:`padim_ace.report.beyond` finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from padim_ace.report.beyond import BACKGROUNDS, COLUMNS, STATISTICS, SUPERVISION, by_seed, interval
from padim_ace.report.figures import COLOURS, INK, STYLE
from padim_ace.report.html_tables import Cell, Head, frame_html, number_text, table_html
from padim_ace.report.tables import DATASETS

MARK = "\N{THIN SPACE}▲"


def _title(dataset: str, level: str) -> str:
    return f"{DATASETS.get(dataset, dataset)}, {level}"


def _gain_text(gain: float, half: float) -> str:
    return f"{number_text(gain, '+.2f')} ± {half:.2f}"


def comparison_html(frame: pd.DataFrame, caption: str, name: str) -> str:
    """A :func:`padim_ace.report.beyond.comparison` as a table, supervision beside each row; the best of a
    column in bold, ▲ where PaDiM is beaten by more than the interval."""
    columns = list(dict.fromkeys(zip(frame["dataset"], frame["level"], strict=True)))
    heads: list[Head] = [("Detector", []), ("Background", []), ("Signature", []), ("Supervision", [])]
    heads += [(_title(*column), []) for column in columns]
    best = frame.groupby(["dataset", "level"])["mean"].max()
    body = []
    for (detector, signature), rows in frame.groupby(["detector", "signature"], sort=False):
        statistic, _, kind = detector.partition("_")
        words = [STATISTICS[statistic], BACKGROUNDS[f"_{kind}" if kind else ""], signature or "–"]
        line = [Cell(word, word, kind="text") for word in [*words, SUPERVISION[signature]]]
        for dataset, level in columns:
            found = rows[(rows["dataset"] == dataset) & (rows["level"] == level)]
            if found.empty:
                line.append(Cell("–", -1.0))
                continue
            row = found.iloc[0]
            title = f"{_gain_text(row['gain'], row['gain_half'])} over PaDiM on the same {row['seeds']} seeds"
            text = f"{row['mean']:.1f} ± {row['half']:.1f}{MARK if row['wins'] else ''}"
            line.append(Cell(text, float(row["mean"]), bool(row["mean"] == best[dataset, level]), title))
        body.append(line)
    return table_html(heads, body, caption, frame, name)


def best_html(best: pd.DataFrame, caption: str, name: str) -> str:
    """The rows of :func:`padim_ace.report.beyond.best_rows` as a table."""
    heads: list[Head] = [(head, []) for head in ("Column", "Best", "AUROC", "PaDiM", "Gain")]
    body = []
    for row in best.to_dict("records"):
        column = _title(row["dataset"], row["level"])
        gain = _gain_text(row["gain"], row["gain_half"]) + (MARK if row["wins"] else "")
        line = [Cell(column, column, kind="text"), Cell(row["named"], row["named"], kind="text")]
        line += [Cell(f"{row[of]:.2f}", row[of]) for of in ("mean", "padim")]
        body.append([*line, Cell(gain, row["gain"], bool(row["wins"]))])
    return table_html(heads, body, caption, best, name)


def wins_html(wins: pd.DataFrame, caption: str, name: str) -> str:
    """A :func:`padim_ace.report.beyond.wins_by_detector` as a table."""
    heads = ["Detector", "Supervision", "above PaDiM", "below", "of"]
    return frame_html(wins.set_axis(heads, axis=1), caption, name)


def areas_html(areas: pd.DataFrame, caption: str, name: str) -> str:
    """The rows of ``areas.csv`` as a table: a line per dataset and detector, a column per group of sizes."""
    groups = sorted(areas["group"].unique())
    sizes = ["smallest", *[""] * (len(groups) - 2), "largest"]
    heads: list[Head] = [("Dataset", []), ("Detector", []), ("Signature", [])]
    heads += [
        (f"{size} quarter" if size else f"quarter {g + 1}", []) for g, size in zip(groups, sizes, strict=True)
    ]
    body = []
    for (dataset, detector, signature), rows in areas.groupby(
        ["dataset", "detector", "signature"], sort=False
    ):
        words = [DATASETS.get(dataset, dataset), STATISTICS[detector], signature or "–"]
        line = [Cell(word, word, kind="text") for word in words]
        for group in groups:
            found = rows[rows["group"] == group]
            mean, half = interval(dict(zip(found["seed"], 100 * found["auroc"], strict=True)))
            share = f"targets cover {found['low'].iloc[0]:.2%} to {found['high'].iloc[0]:.2%} of the image"
            line.append(Cell(f"{mean:.1f} ± {half:.1f}", mean, False, share))
        body.append(line)
    return table_html(heads, body, caption, areas, name)


def selection_html(selection: pd.DataFrame, caption: str, name: str) -> str:
    """The rows of ``selection.csv`` as a table: how many seeds chose each number, by dataset."""
    kinds = {"mined": "patches mined from an image", "subspace": "dimensions of the subspace"}
    columns = [(kind, number) for kind in kinds for number in sorted(set(
        selection.loc[selection["signature"] == kind, "number"]))]  # fmt: skip
    chosen = selection[selection["chosen"]].groupby(["dataset", "signature", "number"]).size()
    rows = [
        [DATASETS.get(dataset, dataset), *(int(chosen.get((dataset, *column), 0)) for column in columns)]
        for dataset in sorted(set(selection["dataset"]), key=list(DATASETS).index)
    ]
    heads = pd.MultiIndex.from_tuples(
        [("Seeds that chose", ""), *((kinds[kind], str(number)) for kind, number in columns)]
    )
    return frame_html(pd.DataFrame(rows, columns=heads), caption, name)


def shrinkage_html(likelihood: dict[str, dict[str, Any]], caption: str, name: str) -> str:
    """Mean log-likelihood of held-out patches as a table: by dataset and weight of the pooled covariance,
    less that of the weight 0.

    Args:
        likelihood: by dataset, what ``seeds.json`` says of each seed; its ``shrinkage`` is by weight.
    """
    means = {
        dataset: pd.DataFrame([seed["shrinkage"] for seed in seeds.values()]).mean()
        for dataset, seeds in likelihood.items()
    }
    rows = [
        [DATASETS.get(dataset, dataset), *(means[dataset] - means[dataset].iloc[0])]
        for dataset in sorted(means, key=list(DATASETS).index)
    ]
    weights = next(iter(means.values())).index
    heads = pd.MultiIndex.from_tuples(
        [("Dataset", ""), *(("weight", f"{float(weight):g}") for weight in weights)]
    )
    return frame_html(pd.DataFrame(rows, columns=heads), caption, name)


def fewest_html(fewest: pd.DataFrame, caption: str, name: str) -> str:
    """A :func:`padim_ace.report.beyond.fewest` as a table."""
    rows = [(_title(row.dataset, row.level), row.mined, row.masked) for row in fewest.itertuples()]
    return frame_html(pd.DataFrame(rows, columns=["Column", "mined", "masked"]), caption, name)


def _panels(columns: tuple[tuple[str, str], ...] | list, height: float) -> tuple[Figure, list[Any]]:
    """A figure with a panel per column, three in a row, and their axes."""
    rows = -(-len(columns) // 3)
    figure, axes = plt.subplots(
        rows, 3, figsize=(8.6, 0.5 + height * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(columns) :]:
        axis.set_axis_off()
    for axis, column in zip(axes.flat, columns, strict=False):
        axis.set_title(_title(*column), fontsize=10, loc="left")
    return figure, list(axes.flat[: len(columns)])


GAINS = {"ace": ("ACE", COLOURS[0], "o", -0.15), "glrt": ("Kelly's GLRT", COLOURS[1], "s", 0.15)}
DRAWN = ("mined", "contrast", "subspace", "masked")


def gain_figure(comparison: pd.DataFrame) -> tuple[Figure, str]:
    """Gain of ACE and of Kelly's statistic over PaDiM by signature, background per patch; and in words.

    ``comparison`` is a :func:`padim_ace.report.beyond.comparison`; a panel per column of it.
    """
    columns = list(dict.fromkeys(zip(comparison["dataset"], comparison["level"], strict=True)))
    said = []
    with plt.rc_context(STYLE):
        figure, axes = _panels(columns, 2.1)
        for place, (axis, (dataset, level)) in enumerate(zip(axes, columns, strict=True)):
            rows = comparison[(comparison["dataset"] == dataset) & (comparison["level"] == level)]
            axis.axvline(0, lw=1, color=INK)
            for statistic, (name, colour, marker, shift) in GAINS.items():
                part = rows[rows["detector"] == statistic].set_index("signature")
                part = part.loc[[signature for signature in DRAWN if signature in part.index]]
                axis.errorbar(
                    part["gain"], [DRAWN.index(signature) + shift for signature in part.index],
                    xerr=part["gain_half"], fmt=marker, ms=5, lw=1.3, capsize=2, color=colour, label=name,
                )  # fmt: skip
                listed = ", ".join(f"{signature} {row['gain']:+.2f}" for signature, row in part.iterrows())
                said.append(f"{_title(dataset, level)}, {name}: {listed}.")
            axis.set_yticks(range(len(DRAWN)), DRAWN if place % 3 == 0 else [""] * len(DRAWN))
            axis.set_ylim(len(DRAWN) - 0.5, -0.5)
            axis.grid(axis="x", lw=0.5, alpha=0.35, color=INK)
            axis.set_xlabel("gain, points")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure, "Gain of AUROC over PaDiM in points, by signature. " + " ".join(said)


def supervision_figure(few: pd.DataFrame, scores: pd.DataFrame, columns=COLUMNS) -> Figure:
    """AUROC by the number of anomalous images that make the signature, PaDiM's as a line.

    Args:
        few: the rows of ``supervision.csv``.
        scores: the rows of ``scores.csv``: with all images, and PaDiM.
        columns: pairs of a dataset and a level.
    """
    with plt.rc_context(STYLE):
        figure, axes = _panels(columns, 2.3)
        for place, (axis, (dataset, level)) in enumerate(zip(axes, columns, strict=True)):
            at = {"dataset": dataset, "level": level, "metric": "auroc"}
            padim, half = interval(by_seed(scores, detector="padim", **at))
            axis.axhline(padim, color=COLOURS[1], lw=1.4, label="PaDiM")
            axis.axhspan(padim - half, padim + half, color=COLOURS[1], alpha=0.2, lw=0)
            for signature, colour, marker in (("mined", COLOURS[0], "o"), ("masked", COLOURS[2], "s")):
                part = few[(few["signature"] == signature)]
                counts = sorted(part["images"].unique())
                found = [interval(by_seed(part[part["images"] == n], **at)) for n in counts]
                every = by_seed(scores, detector="ace", signature=signature, convention="centred", **at)
                found.append(interval(every))
                mean, error = np.array(found).T
                axis.errorbar(
                    range(len(found)), mean, error, marker=marker, ms=5, lw=1.3, capsize=2, color=colour,
                    label=f"ACE, {signature}",
                )  # fmt: skip
                axis.set_xticks(range(len(found)), [*map(str, counts), "all"])
            axis.set_xlabel("anomalous images")
            if place % 3 == 0:
                axis.set_ylabel("AUROC, %")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure
