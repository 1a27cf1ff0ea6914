"""What each deviation of the published code does to the numbers, and a figure of the fill.

A deviation is switched alone in two directions: *corrected* in the published code (``published`` to
``published-D3``), and *introduced* in the detector as it is meant (``centred`` to ``centred+D3``). Effects
are differences of the same seed, so that the spread of splits and features cancels in them. AUROC is in
percent, its differences are in points and stand with their 95 % intervals.
"""

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure

from padim_ace.detect.detector import Detector
from padim_ace.report.figures import COLOURS, HEAT, STYLE
from padim_ace.report.html_tables import Cell, table
from padim_ace.report.summary import gain, select, spread_text
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


def change_text(before: pd.Series, after: pd.Series) -> str:
    """``85.00 to 65.00, −20.00 ± 3.10``: the means over the seeds that both have, and the paired change with
    half its 95 % interval; empty if there are none."""
    both, change = pd.concat([before, after], axis=1).dropna(), gain(after, before)
    if not change.seeds:
        return ""
    means = " to ".join(f"{mean:.2f}" for mean in both.mean())
    return f"{means}, {spread_text(change.mean, change.half, '+.2f')}"


def listed(
    datasets: Iterable[str], detectors: Iterable[Detector], text: Callable[[str, Detector, str], str]
) -> str:
    """A Markdown list by dataset of what ``text`` says of each detector and level, where it says anything."""
    detectors, lines = list(detectors), []
    for dataset in datasets:
        parts = []
        for detector in detectors:
            levels = {level: text(dataset, detector, level) for level in ("image", "pixel")}
            words = "; ".join(f"{level} {said}" for level, said in levels.items() if said)
            parts += [f"    - {detector_title(detector)}: {words}"] if words else []
        lines += [f"- {dataset_title(dataset)}", *parts] if parts else []
    return "\n".join(lines)


def fill_figure(
    normal: UInt8[np.ndarray, "row column"],
    filled: Bool[np.ndarray, "row column"],
    correlation: Float[np.ndarray, "row column"],
) -> tuple[Figure, str]:
    """D9: a target-erased image, and the correlation of neighbouring pixels around each pixel."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(6.6, 3), layout="constrained")
        axes[0].imshow(normal, cmap="gray")
        axes[0].set_title("target erased, fill outlined", fontsize=9)
        heat = plt.get_cmap(HEAT).with_extremes(bad="0.5")  # at the border, where no window fits
        drawn = axes[1].imshow(correlation, cmap=heat, vmin=-0.2, vmax=1)
        axes[1].set_title("correlation of neighbouring pixels", fontsize=9)
        for axis in axes:
            axis.contour(filled, levels=[0.5], colors=COLOURS[1], linewidths=0.9)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        figure.colorbar(drawn, ax=axes, shrink=0.8)
    inside, outside = np.nanmean(correlation[filled]), np.nanmean(correlation[~filled])
    alt = "A simulated vehicle image whose target is erased, and the correlation of neighbouring pixels: "
    return figure, alt + f"{inside:.2f} on average in the fill, which stands out dark, {outside:.2f} outside."
