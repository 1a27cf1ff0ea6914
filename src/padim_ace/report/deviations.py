"""What each deviation of the published code does to the numbers, and two figures of it.

A deviation is switched alone in two directions: *corrected* in the published code (``published`` to
``published-D3``), and *introduced* in the detector as it is meant (``centred`` to ``centred+D3``). Effects
are differences of the same seed, so that the spread of splits and features cancels in them. AUROC is in
percent, its differences are in points and stand with their 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from scipy.linalg import fractional_matrix_power
from scipy.stats import mannwhitneyu

from padim_ace.detect.detector import Detector
from padim_ace.report.figures import COLOURS, HEAT, INK, STYLE
from padim_ace.report.html_tables import Cell, table
from padim_ace.report.summary import gain, select, spread_text
from padim_ace.report.titles import dataset_title, detector_title

COVARIANCE = {"D1": "full", "D2": "diagonal", "D3": "full", "D4": "full", "D5": "full"}
"""The covariance with which each deviation is measured; D2 is about the diagonal one."""
DIRECTIONS = {"corrected": ("published", "published-"), "introduced": ("centred", "centred+")}
"""The convention before a deviation is switched, and how the one after begins."""
EFFECTS = ("dataset", "level", "deviation", "direction", "before", "after", "effect", "half", "seeds")
Clouds = tuple[Float[np.ndarray, "background 2"], Float[np.ndarray, "target 2"]]


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


def simulated_features() -> tuple[Clouds, Float[np.ndarray, " 2"], Float[np.ndarray, "2 2"]]:
    """Background and target points of a Gaussian with two features, the target's mean, the covariance.

    The background spreads eight times as far one way as the other, and the target a little less than it.
    """
    generator = np.random.default_rng(0)
    angle = np.deg2rad(35)
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = axes @ np.diag([16.0, 0.25]) @ axes.T
    target = axes @ np.array([-1.0, 1.2])
    factor = np.linalg.cholesky(covariance)
    background = generator.normal(size=(400, 2)) @ factor.T
    return (background, target + 0.8 * generator.normal(size=(60, 2)) @ factor.T), target, covariance


def whitening_figure() -> tuple[Figure, str]:
    """D1: what Σ^(-1/2) and Σ^(+1/2) make of the same features; the figure and its words."""
    clouds, signature, covariance = simulated_features()
    names = {0: "features", -0.5: "whitened, Σ$^{-1/2}$", 0.5: "the published code, Σ$^{+1/2}$"}
    angle = np.linspace(0, 2 * np.pi, 100)
    ellipse = 2 * np.stack([np.cos(angle), np.sin(angle)], 1) @ fractional_matrix_power(covariance, 0.5)
    aurocs = []
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
        for axis, (exponent, name) in zip(axes, names.items(), strict=True):
            matrix = fractional_matrix_power(covariance, exponent)
            background, target, tip = clouds[0] @ matrix, clouds[1] @ matrix, signature @ matrix
            cosines = [points @ tip / np.linalg.norm(points, axis=1) for points in (target, background)]
            aurocs.append(100 * mannwhitneyu(*cosines).statistic / (len(target) * len(background)))
            for points, label, colour in zip(
                (background, target), ("background", "target"), COLOURS, strict=False
            ):
                axis.scatter(*points.T, s=9, alpha=0.6, color=colour, lw=0, label=label)
            axis.plot(*(ellipse @ matrix).T, color=INK, lw=1.2, ls="--")
            axis.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "->", "color": INK, "lw": 1.8})
            axis.set_title(f"{name}\nAUROC of the cosine: {aurocs[-1]:.0f} %", fontsize=10)
            limit = 1.05 * np.abs(np.concatenate([background, target])).max()
            axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
        axes[0].legend(loc="lower right", handletextpad=0.1)
    alt = (
        "Background and target points in three spaces, with the background's 2-sigma ellipse and an arrow to "
        "the target signature. In feature space the background is a long, narrow ellipse with the targets at "
        "its edge. Whitened, it is a circle and the targets stand clear on one side of it, in the direction "
        "of the signature. Transformed by the square root of the covariance it is a thin line, and so are "
        "the targets within it. The AUROC of the cosine with the signature is "
        f"{', '.join(f'{value:.0f} %' for value in aurocs)}."
    )
    return figure, alt


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
    alt = (
        "A simulated vehicle image whose target is erased, and beside it the correlation of neighbouring "
        f"pixels in a small window: {inside:.2f} on average in the fill, which stands out dark, "
        f"{outside:.2f} outside."
    )
    return figure, alt
