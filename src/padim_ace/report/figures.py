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
from matplotlib.lines import Line2D

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


def show(figure: Figure, alt: str, caption: str = "") -> HTML:
    """Show a figure in a notebook or a page of the book: vector, zoomable, with its alternative text."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return HTML(f'<figure class="drawn">{svg(figure, alt)}{below}</figure>')


def paper_beside_ours(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Dots of published and reproduced means with their standard deviations: a row of panels per dataset.

    ``frames`` are tables of :func:`padim_ace.report.tables.compare`, by the dataset's name.
    """
    lines = [frame.drop_duplicates(["label", "reading"]) for frame in frames.values()]
    heights = [len(frame) + 1.2 for frame in lines]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(frames),
            2,
            squeeze=False,
            sharex=True,
            figsize=(8, 0.8 + 0.36 * sum(heights)),
            height_ratios=heights,
            layout="constrained",
        )
        for panels, (dataset, frame), line in zip(axes, frames.items(), lines, strict=True):
            names = [f"{row.label}, {row.reading}" if row.reading else row.label for row in line.itertuples()]
            place = {key: -i for i, key in enumerate(zip(line["label"], line["reading"], strict=True))}
            for axis, level in zip(panels, ("image", "pixel"), strict=True):
                _dots(axis, frame[frame["level"] == level], place)
                axis.set_title(f"{dataset}, {level} AUROC", fontsize=10, loc="left")
                axis.set_yticks(list(place.values()), names if level == "image" else [])
                axis.set(ylim=(-len(place) + 0.4, 0.6), xlim=(38, 102))
        for axis in axes[-1]:
            axis.set_xlabel("%")
        marks = [
            Line2D([], [], marker=marker, color=colour, ls="", label=label)
            for label, marker, colour in (("paper", "s", COLOURS[1]), ("here", "o", COLOURS[0]))
        ]
        figure.legend(handles=marks, loc="outside upper right", ncols=2)
    return figure


def _dots(axis: Any, frame: pd.DataFrame, place: Mapping[tuple[str, str], int]) -> None:
    y = np.array([place[key] for key in zip(frame["label"], frame["reading"], strict=True)], dtype=float)
    for mean, std, shift, colour, marker in (
        ("paper_mean", "paper_std", 0.13, COLOURS[1], "s"),
        ("mean", "std", -0.13, COLOURS[0], "o"),
    ):
        x, spread = frame[mean].astype(float), frame[std].astype(float).fillna(0)
        axis.errorbar(x, y + shift, xerr=spread, fmt=marker, ms=5, lw=1.3, capsize=2, color=colour)
    axis.axvline(50, lw=0.9, ls=":", color=INK)
    axis.grid(axis="x", lw=0.5, alpha=0.35, color=INK)


def localisation(
    images: UInt8[np.ndarray, "n h w"],
    masks: Bool[np.ndarray, "n h w"],
    heats: dict[str, Float[np.ndarray, "n h w"]],
    names: Sequence[str],
    thresholds: dict[str, float],
) -> Figure:
    """Images, one per row: input with the truth's outline, then each detector's heat map and predicted mask.

    Parameters
    ----------
    images, masks
        Grey images and their ground truth.
    heats
        Anomaly maps by detector, in the detector's own units; a detector has one scale for all rows.
    names
        What the rows are called.
    thresholds
        By detector, the score above which a pixel is in the predicted mask.
    """
    columns = 1 + 2 * len(heats)
    side = min(1.8, 8.6 / columns)  # of a panel, in inches
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(images),
            columns,
            squeeze=False,
            figsize=(columns * side, len(images) * side + 0.5),
            layout="constrained",
        )
        for row, line in enumerate(axes):
            line[0].imshow(images[row], cmap="gray", vmin=0, vmax=255)
            name = names[row]  # a tile's is long: its ends tell it from others
            line[0].set_ylabel(name if len(name) <= 16 else f"{name[:5]}…{name[-9:]}", fontsize=8)
            panels = iter(line[1:])
            for detector, heat in heats.items():
                next(panels).imshow(heat[row], cmap=HEAT, vmin=float(heat.min()), vmax=float(heat.max()))
                next(panels).imshow(heat[row] > thresholds[detector], cmap="gray", vmin=0, vmax=1)
            for axis in line:
                axis.set(xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set_visible(False)
                if masks[row].any():
                    axis.contour(masks[row], levels=[0.5], colors=COLOURS[1], linewidths=0.9)
        heads = ["input"] + [head for name in heats for head in (f"{name}\nheat map", f"{name}\nmask")]
        for axis, head in zip(axes[0], heads, strict=True):
            axis.set_title(head, fontsize=9)
    return figure


DETECTORS = {"padim": "PaDiM", "ace": "PaDiM-ACE", "subspace": "target subspace"}


def localisation_page(path: Path | str, title: str) -> list[HTML]:
    """The localisation figure of a scored dataset, from the examples that scoring kept in ``maps.npz``.

    The file has image [n, H, W] uint8, mask [n, H, W] bool, names [n], and per detector heat_<detector>
    [n, H, W] float32 and threshold_<detector>, the threshold with the best F1 score on the validation split.
    """
    with np.load(path) as file:
        kept = dict(file)
    detectors = {key: name for key, name in DETECTORS.items() if f"heat_{key}" in kept}
    heats = {name: kept[f"heat_{key}"] for key, name in detectors.items()}
    thresholds = {name: float(kept[f"threshold_{key}"]) for key, name in detectors.items()}
    names = [Path(str(name)).stem for name in kept["names"]]
    found = {
        name: f"{sum(bool((heat[i] > thresholds[name])[kept['mask'][i]].any()) for i in range(len(names)))}"
        for name, heat in heats.items()
    }
    alt = (
        f"{len(names)} images of {title}, one per row, with the outline of their targets; beside each its "
        f"heat map and predicted mask by {len(heats)} detectors. The predicted mask touches the target in "
        + ", in ".join(f"{count} of {len(names)} images for {name}" for name, count in found.items())
        + "."
    )
    figure = localisation(kept["image"], kept["mask"].astype(bool), heats, names, thresholds)
    caption = (
        f"{title}: the input with the true target outlined, and for each detector its heat map (cividis, one "
        "scale for all rows) and predicted mask, the same outline drawn in all."
    )
    return [show(figure, alt, caption)]
