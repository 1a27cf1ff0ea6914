"""Figures of the book: vector, legible on light and dark pages, with words for those who do not see them.

A figure is shown as SVG inside the page, its text and axes in the page's own colour (``currentColor``), its
series in colours that differ in lightness too (Okabe and Ito), its heat maps in cividis.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure

from padim_ace.paper.detectors import EXAMPLES
from padim_ace.report.html_tables import csv_link
from padim_ace.report.titles import detector_title

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
HEAT = "cividis"
INK = "#123456"  # stands for the page's text colour until the figure is written

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "padim-ace",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "image.interpolation": "nearest",
}


def svg(figure: Figure, alt: str) -> str:
    """A figure as an SVG element in the page's text colour; ``alt`` says what is seen, for screen readers."""
    buffer = io.StringIO()
    with plt.rc_context(STYLE):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    width = re.search(r'width="([\d.]+)pt"', text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    size = f"max-width:{float(width[1]) * 4 / 3:.0f}px" if width else ""
    return text.replace("<svg", f'<svg role="img" style="{size}" aria-label="{html.escape(alt)}"', 1)


def show(figure: Figure, alt: str, caption: str = "", data: pd.DataFrame | None = None) -> HTML:
    """Show a figure in a notebook or a page of the book: vector, zoomable, with its alternative text;
    ``data`` are offered as a CSV file."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    below += "" if data is None else csv_link(data, "figure")
    return HTML(f'<figure class="drawn">{svg(figure, alt)}{below}</figure>')


def panels(
    titles: Sequence[str], across: int, height: float, sharex: bool = True
) -> tuple[Figure, list[Any]]:
    """A figure with a titled panel for each of ``titles``, ``across`` in a row, and their axes."""
    rows = -(-len(titles) // across)
    figure, axes = plt.subplots(
        rows, across, squeeze=False, sharex=sharex, figsize=(8.6, 0.5 + height * rows), layout="constrained"
    )
    for axis in axes.flat[len(titles) :]:
        axis.set_axis_off()
    for axis, title in zip(axes.flat, titles, strict=False):
        axis.set_title(title, fontsize=10, loc="left")
        axis.grid(axis="x", lw=0.5, alpha=0.35, color=INK)
    return figure, list(axes.flat[: len(titles)])


def paper_beside_ours(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Dots of published and reproduced means with their standard deviations: a row of panels per dataset.

    ``frames`` are tables of :func:`padim_ace.report.tables.compare`, by the dataset's name.
    """
    sides = {"paper": ("paper_mean", "paper_std", 0.13, COLOURS[1], "s")}
    sides |= {"here": ("mean", "std", -0.13, COLOURS[0], "o")}
    titles = [f"{name}, {level} AUROC" for name in frames for level in ("image", "pixel")]
    with plt.rc_context(STYLE):
        figure, axes = panels(titles, 2, 2.3)
        for place, frame in enumerate(frames.values()):
            names = frame["label"] + np.where(frame["reading"] == "", "", ", ") + frame["reading"]
            order = list(dict.fromkeys(names))
            for axis, level in zip(axes[2 * place :], ("image", "pixel"), strict=False):
                rows = frame[frame["level"] == level]
                y = np.array([-order.index(name) for name in names[rows.index]])
                for label, (mean, std, shift, colour, marker) in sides.items():
                    axis.errorbar(
                        rows[mean], y + shift, xerr=rows[std].fillna(0), fmt=marker, ms=5, lw=1.3, capsize=2,
                        color=colour, label=label,
                    )  # fmt: skip
                axis.axvline(50, lw=0.9, ls=":", color=INK)
                axis.set_yticks(range(0, -len(order), -1), order if level == "image" else [])
                axis.set(ylim=(-len(order) + 0.4, 0.6), xlim=(38, 102))
        for axis in axes[-2:]:
            axis.set_xlabel("%")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def localisation(
    images: UInt8[np.ndarray, "n h w"],
    masks: Bool[np.ndarray, "n h w"],
    heats: dict[str, Float[np.ndarray, "n h w"]],
    names: Sequence[str],
    thresholds: dict[str, float],
) -> Figure:
    """Images, one per row: input with the truth's outline, then each detector's heat map and predicted mask.

    Args:
        images: grey images.
        masks: their ground truth.
        heats: anomaly maps by detector, in the detector's own units; a detector has one scale for all rows.
        names: what the rows are called.
        thresholds: by detector, the score above which a pixel is in the predicted mask.
    """
    columns = 1 + 2 * len(heats)
    side = min(1.8, 8.6 / columns)  # of a panel, in inches
    size = (columns * side, len(images) * side + 0.5)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(images), columns, squeeze=False, figsize=size, layout="constrained")
        for row, line in enumerate(axes):
            line[0].imshow(images[row], cmap="gray", vmin=0, vmax=255)
            name = names[row]  # a tile's is long: its ends tell it from others
            line[0].set_ylabel(name if len(name) <= 16 else f"{name[:5]}…{name[-9:]}", fontsize=8)
            axis = iter(line[1:])
            for detector, heat in heats.items():
                next(axis).imshow(heat[row], cmap=HEAT, vmin=float(heat.min()), vmax=float(heat.max()))
                next(axis).imshow(heat[row] > thresholds[detector], cmap="gray", vmin=0, vmax=1)
            for panel in line:
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
                if masks[row].any():
                    panel.contour(masks[row], levels=[0.5], colors=COLOURS[1], linewidths=0.9)
        heads = ["input"] + [f"{name}\n{what}" for name in heats for what in ("heat map", "mask")]
        for panel, head in zip(axes[0], heads, strict=True):
            panel.set_title(head.replace(", ", ",\n"), fontsize=9)
    return figure


def localisation_page(path: Path | str, title: str) -> HTML:
    """The localisation figure of a scored dataset, from the examples that scoring kept in ``maps.npz``.

    The file has image [n, H, W] uint8, mask [n, H, W] bool, names [n], and per detector heat_<detector>
    [n, H, W] float32 and threshold_<detector>, the threshold with the best F1 score on the validation split.
    """
    with np.load(path) as file:
        kept = dict(file)
    keys = {detector_title(d): key for key, d in EXAMPLES.items() if f"heat_{key}" in kept}
    heats = {name: kept[f"heat_{key}"] for name, key in keys.items()}
    thresholds = {name: float(kept[f"threshold_{key}"]) for name, key in keys.items()}
    names, masks = [Path(str(name)).stem for name in kept["names"]], kept["mask"].astype(bool)
    touched = {name: ((heat > thresholds[name]) & masks).any((1, 2)).sum() for name, heat in heats.items()}
    alt = (
        f"{len(names)} images of {title}, one per row, with the outline of their targets; beside each its "
        f"heat map and predicted mask by {len(heats)} detectors. The predicted mask touches the target in "
        + ", in ".join(f"{count} of {len(names)} images for {name}" for name, count in touched.items())
        + "."
    )
    caption = (
        f"{title}: the input with the true target outlined, and for each detector its heat map (cividis, one "
        "scale for all rows) and predicted mask, the same outline drawn in all."
    )
    return show(localisation(kept["image"], masks, heats, names, thresholds), alt, caption)
