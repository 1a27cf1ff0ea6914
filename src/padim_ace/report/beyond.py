"""Beyond the paper: the recommended detector beside its rivals, with scenes apart. All in percent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd
from IPython.display import HTML
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from padim_ace.detect.detector import PADIM, RECOMMENDED, UNSUPERVISED, Detector
from padim_ace.experiment.baselines import BASELINES
from padim_ace.paper.detectors import CHANGED, LOGISTIC, PADIM_ACE
from padim_ace.report.figures import COLOURS, INK, STYLE, panels
from padim_ace.report.html_tables import Cell, table
from padim_ace.report.summary import Summary, gain, select, spread_text, summarise
from padim_ace.report.tables import row_of
from padim_ace.report.titles import dataset_title

Metric = tuple[str, str]
"""A level and a metric."""
METRICS: dict[Metric, str] = {
    ("image", "auroc"): "Image AUROC",
    ("image", "ap"): "Image AP",
    ("pixel", "auroc"): "Pixel AUROC",
    ("pixel", "ap"): "Pixel AP",
    ("pixel", "aupro"): "AUPRO",
}
"""What detectors are compared by."""
VEHICLE = {(level.replace("pixel", "vehicle"), metric): title for (level, metric), title in METRICS.items()}
"""The same, with the vehicle's own mask as the truth of pixels."""
Who = Detector | str
"""A detector of ours, or the name of a baseline."""
RIVALS: dict[str, Who] = {"PaDiM": PADIM, "RX": "rx", "CA-CFAR": "cfar", "MH-PatchCore": "mhpatchcore"}
"""Those that the recommended detector is to beat."""
COMPARED: dict[str, tuple[Who, str]] = {
    "recommended": (RECOMMENDED, "image labels"),
    **{
        title: (who, "nothing" if title in ("RX", "CA-CFAR") else "normal images")
        for title, who in RIVALS.items()
    },
    "PatchCore": ("patchcore", "normal images"),
    "PaDiM-ACE, as meant": (PADIM_ACE, "image labels"),
}
"""The main table: who, and what has to be known of the training images."""
FRONT: dict[str, tuple[Who, str]] = {
    **{title: COMPARED[title] for title in ("recommended", "RX", "PaDiM", "PaDiM-ACE, as meant")},
    "PaDiM-ACE, as published": (replace(PADIM_ACE, convention="published"), "image labels"),
}
"""Those of the front page."""
OTHERS: dict[str, tuple[Who, str]] = {
    "recommended": (RECOMMENDED, "image labels"),
    "PaDiM with SAR channels": (UNSUPERVISED, "normal images"),
    "logistic regression": (LOGISTIC, "image labels"),
    "masked signature": (CHANGED["masked signature"], "masks"),
    "RX, one background": ("rx_shared", "normal images"),
    "DFM": ("dfm_resnet18", "normal images"),
    "FRE": ("fre_resnet18", "normal images"),
}
"""The rest of those that were run."""


def values(scores: pd.DataFrame, who: Who, dataset: str, metric: Metric, **where: Any) -> pd.Series:
    """One detector's values by seed, with scenes apart; empty if it was not run.

    ``scores`` has one backbone of ours, and those of the baselines.
    """
    at = {"protocol": "scenes", "dataset": dataset, "level": metric[0], "metric": metric[1]}
    if isinstance(who, str):
        at["backbone"] = BASELINES[who].backbone
    return select(scores, **at, **row_of(who), **where)


def difference(scores: pd.DataFrame, theirs: Who, dataset: str, metric: Metric, ours: Who) -> Summary:
    """How far ``ours`` is above ``theirs``, paired over the seeds that both have."""
    return gain(values(scores, ours, dataset, metric), values(scores, theirs, dataset, metric))


def comparison(
    scores: pd.DataFrame,
    who: Mapping[str, tuple[Who, str]],
    datasets: Collection[str],
    metrics: Collection[Metric] = METRICS,
) -> pd.DataFrame:
    """Every detector's mean in every metric, and how far the recommended one is above it.

    Columns: ``dataset``, ``detector``, ``supervision``, ``level``, ``metric``, ``mean``, ``half``, ``seeds``,
    ``ahead``, ``ahead_half``, and whether the recommended one is ``above`` or ``below`` by more than the
    interval.
    """
    rows = []
    for title, (one, supervision) in who.items():
        for dataset, metric in product(datasets, metrics):
            found = values(scores, one, dataset, metric)
            if found.empty:
                continue
            mean, _, half, seeds = summarise(found)
            ahead = difference(scores, one, dataset, metric, RECOMMENDED)
            row: dict[str, Any] = {"dataset": dataset, "detector": title, "supervision": supervision}
            row |= {"level": metric[0], "metric": metric[1], "mean": mean, "half": half, "seeds": seeds}
            row |= {"ahead": ahead.mean, "ahead_half": ahead.half}
            rows.append(row | {"above": ahead.above, "below": ahead.below})
    return pd.DataFrame(rows)


def comparison_table(frame: pd.DataFrame, caption: str, name: str) -> HTML:
    """Draw a :func:`comparison` of one dataset or several: ▼ by a number that the recommended detector's is
    above by more than the interval, ▲ by one that is above it."""
    titles = METRICS | VEHICLE
    lines: dict[str, dict[str, Any]] = {}
    for row in frame.itertuples(index=False):
        line = lines.setdefault(row.detector, {"Detector": row.detector, "Known": row.supervision})
        mark = "\N{THIN SPACE}▼" * row.above + "\N{THIN SPACE}▲" * row.below
        said = f"{row.seeds} seeds"
        if row.detector != "recommended":
            said = (
                f"recommended: {spread_text(row.ahead, row.ahead_half, '+.2f')} on the same {row.seeds} seeds"
            )
        text = spread_text(row.mean, row.half, ".1f") + mark
        of = f"{dataset_title(row.dataset).split()[0]} " * (frame["dataset"].nunique() > 1)
        line[of + titles[row.level, row.metric]] = Cell(text, row.detector == "recommended", said)
    return table(pd.DataFrame(lines.values()), caption, name, data=frame)


def decided(frame: pd.DataFrame) -> str:
    """Where the recommended detector of a :func:`comparison` is above all others by more than the interval,
    and against which it is not, in words."""
    others = frame[frame["detector"] != "recommended"]
    parts = []
    for (dataset, *metric), rows in others.groupby(["dataset", "level", "metric"], sort=False):
        column = f"{metric[0]} {metric[1].upper()} on {dataset_title(dataset).split()[0]}"
        ties = ", ".join(rows.loc[~rows["above"] & ~rows["below"], "detector"])
        worse = ", ".join(rows.loc[rows["below"], "detector"])
        said = [f"not decided against {ties}"] * bool(ties) + [f"below {worse}"] * bool(worse)
        parts.append(f"{' and '.join(said) or 'above all others'} in {column}")
    return "; ".join(parts)


def front_figure(frame: pd.DataFrame) -> tuple[Figure, str]:
    """The detectors of a :func:`comparison` with their intervals, a panel for each metric; and in words."""
    names, said = list(dict.fromkeys(frame["detector"])), []
    columns = list(frame.groupby(["level", "metric"], sort=False))
    with plt.rc_context(STYLE):
        figure, axes = panels([f"{METRICS[metric]}, %" for metric, _ in columns], 2, 1.9, sharex=False)
        for axis, (metric, rows) in zip(axes, columns, strict=True):
            for number, (dataset, found) in enumerate(rows.groupby("dataset", sort=False)):
                y = [names.index(name) + 0.24 * number - 0.12 for name in found["detector"]]
                look = {"fmt": "os"[number], "ms": 5, "lw": 1.3, "capsize": 2, "color": COLOURS[number]}
                axis.errorbar(found["mean"], y, xerr=found["half"], label=dataset_title(dataset), **look)
                listed = ", ".join(f"{row.detector} {row.mean:.1f}" for row in found.itertuples())
                said.append(f"{METRICS[metric]} on {dataset_title(dataset)}: {listed}.")
            axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names))
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.set_xlim(max(0, axis.get_xlim()[0]), min(100.5, axis.get_xlim()[1]))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure, " ".join(said)


def rivals(scores: pd.DataFrame, datasets: Iterable[str]) -> dict[str, Who]:
    """Those of :data:`RIVALS` that were run on all of the datasets."""
    metric = next(iter(METRICS))
    return {
        title: who
        for title, who in RIVALS.items()
        if all(len(values(scores, who, dataset, metric)) for dataset in datasets)
    }


def tally(scores: pd.DataFrame, datasets: Sequence[str]) -> tuple[int, int, int]:
    """In how many columns, a dataset and a metric each, the recommended detector is above all of the rivals
    that were run there by more than the interval; in how many below one of them; and of how many."""
    columns = [
        [difference(scores, who, dataset, metric, RECOMMENDED) for who in rivals(scores, datasets).values()]
        for dataset in datasets
        for metric in METRICS
    ]
    above = sum(all(one.above for one in ahead) for ahead in columns)
    return above, sum(any(one.below for one in ahead) for ahead in columns), len(columns)


def ahead_figure(scores: pd.DataFrame, datasets: Sequence[str]) -> tuple[Figure, str]:
    """How far the recommended detector is above each rival, a panel for each dataset; and in words."""
    said = []
    drawn = {
        title: who for title, who in RIVALS.items() if len(values(scores, who, datasets[0], ("image", "ap")))
    }
    with plt.rc_context(STYLE):
        figure, axes = panels([dataset_title(dataset) for dataset in datasets], 3, 2.6, sharex=False)
        for place, (axis, dataset) in enumerate(zip(axes, datasets, strict=True)):
            axis.axvline(0, lw=1, color=INK)
            for number, (title, who) in enumerate(drawn.items()):
                found = [difference(scores, who, dataset, metric, RECOMMENDED) for metric in METRICS]
                if not found[0].seeds:
                    continue
                y = [row + 0.2 * (number - 1.5) for row in range(len(METRICS))]
                axis.errorbar(
                    [one.mean for one in found], y, xerr=[one.half for one in found], fmt="os^D"[number],
                    ms=4.5, lw=1.3, capsize=2, color=COLOURS[number], label=f"above {title}",
                )  # fmt: skip
                listed = ", ".join(
                    f"{m} {one.mean:+.1f}" for m, one in zip(METRICS.values(), found, strict=True)
                )
                said.append(f"{dataset_title(dataset)}, above {title}: {listed}.")
            axis.set_yticks(range(len(METRICS)), METRICS.values() if place == 0 else [""] * len(METRICS))
            axis.set_ylim(len(METRICS) - 0.5, -0.5)
            axis.set_xlabel("points above")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure, "How far the recommended detector is above its rivals, in points. " + " ".join(said)


def changes_table(
    validation: pd.DataFrame, names: Iterable[str], datasets: Sequence[str], caption: str, name: str
) -> HTML:
    """What validation images say of one thing changed: the recommended detector's means, and differences to
    them with ▲ or ▼ where they are beyond the interval. ``validation`` has the rows of ``validation.csv``."""
    lines = []
    for title in names:
        line: dict[str, Any] = {"Changed": title}
        for dataset in datasets:
            for metric, head in METRICS.items():
                found = difference(validation, RECOMMENDED, dataset, metric, CHANGED[title])
                mark = "\N{THIN SPACE}▲" * found.above + "\N{THIN SPACE}▼" * found.below
                text = spread_text(found.mean, float("nan"), "+.1f") + mark
                if CHANGED[title] == RECOMMENDED:
                    mean = values(validation, RECOMMENDED, dataset, metric).mean()
                    text = spread_text(mean, float("nan"), ".1f")
                said = f"{found.mean:+.2f} ± {found.half:.2f} on {found.seeds} seeds"
                line[f"{dataset_title(dataset).split()[0]} {head}"] = Cell(text, title=said)
        lines.append(line)
    return table(pd.DataFrame(lines), caption, name)


def by_images(few: pd.DataFrame, scores: pd.DataFrame, dataset: str, metric: Metric) -> dict[str, Summary]:
    """The recommended detector by the number of images that are known to be anomalous; ``few`` has the rows
    of ``supervision.csv``."""
    counts = sorted({int(count) for count in few["images"]})
    found = {str(n): summarise(values(few, RECOMMENDED, dataset, metric, images=n)) for n in counts}
    return found | {"all": summarise(values(scores, RECOMMENDED, dataset, metric))}


def supervision_figure(
    few: pd.DataFrame, scores: pd.DataFrame, datasets: Sequence[str], metrics: Sequence[Metric]
) -> tuple[Figure, str]:
    """Metrics by the number of anomalous images, with PaDiM and what is recommended without any as lines; and
    in words."""
    said = []
    columns = [(dataset, metric) for metric in metrics for dataset in datasets]
    with plt.rc_context(STYLE):
        titles = [f"{dataset_title(dataset)}, {METRICS[metric]}" for dataset, metric in columns]
        figure, axes = panels(
            [t.replace("auroc", "AUROC").replace(" ap", " AP") for t in titles], 3, 2.2, sharex=False
        )
        for place, (axis, (dataset, metric)) in enumerate(zip(axes, columns, strict=True)):
            lines = {"PaDiM": (PADIM, "--"), "PaDiM with SAR channels": (UNSUPERVISED, "-")}
            for title, (who, style) in lines.items():
                level = values(scores, who, dataset, metric).mean()
                axis.axhline(level, color=COLOURS[1], lw=1.4, ls=style, label=title)
            ours = by_images(few, scores, dataset, metric)
            look = {"marker": "o", "ms": 5, "lw": 1.3, "capsize": 2, "color": COLOURS[0]}
            means, halves = [one.mean for one in ours.values()], [one.half for one in ours.values()]
            axis.errorbar(range(len(ours)), means, halves, label="recommended", **look)
            axis.set_xticks(range(len(ours)), ours)
            axis.set_xlabel("anomalous images")
            if place % 3 == 0:
                axis.set_ylabel("%")
            said.append(f"{titles[place]}: {', '.join(f'{n} {one.mean:.1f}' for n, one in ours.items())}.")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure, "By the number of anomalous training images, in percent. " + " ".join(said)
