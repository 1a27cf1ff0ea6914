"""What each deviation of the published code does to the numbers, read from the tables in ``results``.

A deviation is switched alone in two directions: *corrected* in the published code (``published`` to
``published-D3``), and *introduced* in the detector as it is meant (``centred`` to ``centred+D3``). Effects
are differences of the same seed, so that the spread of splits and features cancels in them. AUROC is in
percent, its differences are in points and stand with their 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import pandas as pd
from IPython.display import HTML

from padim_ace.detect.detector import PADIM, Detector
from padim_ace.experiment.results import NAMES
from padim_ace.paper.detectors import PADIM_ACE, READINGS
from padim_ace.report.html_tables import Cell, table
from padim_ace.report.summary import gain, number_text, select, spread_text
from padim_ace.report.titles import dataset_title, detector_title

COVARIANCE = {"D1": "full", "D2": "diagonal", "D3": "full", "D4": "full", "D5": "full"}
"""The covariance with which each deviation is measured; D2 is about the diagonal one."""
DIRECTIONS = {"corrected": ("published", "published-"), "introduced": ("centred", "centred+")}
"""The convention before a deviation is switched, and how the one after begins."""
EFFECTS = ("dataset", "level", "deviation", "direction", "before", "after", "effect", "half", "seeds")


def auroc(
    scores: pd.DataFrame, dataset: str, level: str, backbone: str, detector: Detector, protocol: str = "paper"
) -> pd.Series:
    """AUROC by seed; empty if it was not run."""
    at = {"dataset": dataset, "level": level, "backbone": backbone, "metric": "auroc"}
    return select(scores, protocol=protocol, **at, **detector.row())


def effects(scores: pd.DataFrame, datasets: Iterable[str], backbone: str) -> pd.DataFrame:
    """Each deviation of D1 to D5 switched alone.

    Returns:
        One row per dataset, level, deviation and direction: AUROC ``before`` and ``after`` over the ``seeds``
        that have both, ``effect`` their mean difference, ``half`` the width of its 95 % interval.
    """
    rows = []
    for dataset, level, way, deviation in product(datasets, ("image", "pixel"), DIRECTIONS, COVARIANCE):
        ends = (DIRECTIONS[way][0], DIRECTIONS[way][1] + deviation)
        pair = [Detector(covariance=COVARIANCE[deviation], convention=convention) for convention in ends]
        ways = [auroc(scores, dataset, level, backbone, detector) for detector in pair]
        both = pd.concat(ways, axis=1, keys=["before", "after"]).dropna()
        if len(both):
            change = gain(both["after"], both["before"])
            row = (dataset, level, deviation, way, *both.mean(), change.mean, change.half, change.seeds)
            rows.append(row)
    return pd.DataFrame(rows, columns=list(EFFECTS))


def effects_table(frame: pd.DataFrame, caption: str, name: str) -> HTML:
    """Draw :func:`effects`, a row per dataset and deviation."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in frame.itertuples(index=False):
        line = lines.setdefault((row.dataset, row.deviation), {"Dataset": dataset_title(row.dataset)})
        line |= {"Deviation": row.deviation, "Covariance": COVARIANCE[row.deviation]}
        said = f"{row.before:.2f} to {row.after:.2f}, {row.seeds} seeds"
        cell = Cell(spread_text(row.effect, row.half, "+.1f"), title=said)
        line[f"{row.level.capitalize()} AUROC, {row.direction}"] = cell
    return table(pd.DataFrame(lines.values()), caption, name, data=frame)


def seed_spread(scores: pd.DataFrame, datasets: Iterable[str], backbone: str) -> pd.DataFrame:
    """D7: how far the detectors that the chapter follows move from seed to seed, as a table's columns."""
    rows = []
    for dataset, level, detector in product(datasets, ("image", "pixel"), READINGS):
        values = auroc(scores, dataset, level, backbone, detector)
        if len(values):
            names = (dataset_title(dataset), detector_title(detector), level, len(values))
            rows.append((*names, values.mean(), values.std(), values.min(), values.max()))
    heads = ["Dataset", "Detector", "Level", "Seeds", "Mean", "Std", "Least", "Greatest"]
    return pd.DataFrame(rows, columns=heads)


def removal_effect(scores: pd.DataFrame, paper: pd.DataFrame, backbone: str) -> pd.DataFrame:
    """SSDD with its targets removed by its masks and by k-means, over the seeds of both, paired.

    The paper's numbers stand beside the detectors that are the paper's.
    """
    in_paper = {PADIM: "padim", Detector(convention="published"): "padim_ace"}
    cells = paper[(paper["table"] == 1) & (paper["dataset"] == "ssdd")].set_index(["model", "level"])
    cells = cells.apply(lambda cell: spread_text(cell["mean"], cell["std"]), axis=1)
    rows = []
    for detector, level in product(READINGS, ("image", "pixel")):
        ways = [auroc(scores, name, level, backbone, detector) for name in ("ssdd", "ssdd_kmeans")]
        both = pd.concat(ways, axis=1, keys=["masks", "kmeans"]).dropna()
        if len(both):
            change = gain(both["kmeans"], both["masks"])
            texts = [spread_text(both[way].mean(), both[way].std(), ".1f") for way in both]
            texts.append(spread_text(change.mean, change.half, "+.1f"))
            cell = cells.get((in_paper.get(detector), level), "–")
            rows.append((detector_title(detector), level, *texts, cell))
    heads = ["Detector", "Level", "By masks", "By k-means", "Difference", "Paper"]
    return pd.DataFrame(rows, columns=heads)


def clamp_effect(clamp: pd.DataFrame) -> pd.DataFrame:
    """D10: image AUROC from raw and from clamped scores, means over the seeds, as a table's columns.

    Args:
        clamp: the rows of ``clamp.csv`` of one backbone, as fractions.
    """
    titles = {tuple(detector.row().values()): detector_title(detector) for detector in READINGS}
    rows = []
    for (dataset, *words), part in clamp.groupby(["dataset", *NAMES], sort=False):
        mean = 100 * part[["raw", "clamped", "tied"]].mean()
        change = 100 * (part["clamped"] - part["raw"])
        texts = [number_text(value, "+.2f") for value in (change.mean(), change[change.abs().idxmax()])]
        names = (dataset_title(dataset), titles[tuple(words)])
        rows.append((*names, mean["raw"], mean["clamped"], *texts, number_text(mean["tied"], ".1f")))
    heads = ["Dataset", "Detector", "Raw", "Clamped", "Mean change", "Largest change", "Tied, %"]
    return pd.DataFrame(rows, columns=heads)


def leak(scores: pd.DataFrame, datasets: Iterable[str], backbone: str) -> pd.DataFrame:
    """D11: AUROC where no copy of a tested image trains, and its change where the erased copies do, with half
    the width of its 95 % interval, as a table's columns."""
    lines: dict[tuple[str, Detector], dict[str, Any]] = {}
    for dataset, detector, level in product(datasets, (PADIM, PADIM_ACE), ("image", "pixel")):
        apart, twins = (auroc(scores, dataset, level, backbone, detector, arm) for arm in ("apart", "twins"))
        change = gain(twins, apart)
        if change.seeds:
            names = {"Dataset": dataset_title(dataset), "Detector": detector_title(detector)}
            title = f"{level.capitalize()} AUROC, apart"
            spread = spread_text(change.mean, change.half, "+.2f")
            line = lines.setdefault((dataset, detector), {**names, "Seeds": change.seeds})
            line |= {title: apart.mean(), f"{level.capitalize()}, change": spread}
    return pd.DataFrame(lines.values())


FILL = {
    "correlation_background": "correlation of neighbouring pixels, background",
    "correlation_fill": "correlation of neighbouring pixels, fill",
    "window_auroc": "AUROC, windows of fill against windows of background",
    "image_auroc": "AUROC, anomalous images against normals, by the least correlated window",
}
"""What ``fill.csv`` measures, in words."""
