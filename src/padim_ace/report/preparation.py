"""What the page of a preparation shows: examples, counts, mask areas, suspicious masks, the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_prep.images import read_grey8
from padim_ace.report.figures import COLOURS, STYLE
from padim_ace.report.html_tables import number_text

OUTLINE = COLOURS[4]
LIMIT = 3.5  # robust z above which a mask's area is an outlier


def _panel(axis: Axes, image: np.ndarray, mask: np.ndarray | None, title: str = "") -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    if mask is not None and mask.any():
        padded = np.pad(mask, 1)  # closes outlines at the image's border
        ticks = [np.arange(-1, side + 1) for side in mask.shape]
        axis.contour(ticks[1], ticks[0], padded, levels=[0.5], colors=[OUTLINE], linewidths=0.9)
        axis.set(xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))
    axis.set_title(title, fontsize=9)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def counts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images per class (rows) and split and label (columns), with totals."""
    by = [manifest["split"], manifest["label"]]
    table = pd.crosstab(manifest["class"], by, margins=True, margins_name="all")
    return table.rename_axis(index="class", columns=["split", "label"])


def mask_areas(folder: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """One row per mask: path, class, split, `area` in % of the image, and `z`.

    z is the robust standard score of log(area) in its class, (x - median) / (1.4826 MAD).
    """
    table = manifest.loc[manifest["mask"] != "", ["path", "mask", "class", "split"]].reset_index(drop=True)
    table["area"] = [100 * np.mean(read_grey8(folder / mask) > 0) for mask in table["mask"]]
    logarithm = np.log(table["area"].clip(lower=1e-3))
    groups = logarithm.groupby(table["class"])
    deviation = (logarithm - groups.transform("median")).abs()
    spread = 1.4826 * deviation.groupby(table["class"]).transform("median")
    table["z"] = ((logarithm - groups.transform("median")) / spread.where(spread > 0)).fillna(0.0)
    return table


def examples(folder: Path, manifest: pd.DataFrame, seed: int = 0) -> Figure:
    """Before, mask and after of two images a row: two of each class, or eight of the only one."""
    anomalous = manifest[manifest["label"] == "anomalous"].reset_index(drop=True)
    normal = manifest.loc[manifest["label"] == "normal", "path"].to_numpy()
    rng = np.random.default_rng(seed)
    classes = anomalous.groupby("class").groups.values()
    picks = [pick for rows in classes for pick in rng.permutation(rows)[: 2 if len(classes) > 1 else 8]]
    height = 1.36 * float((anomalous["height"] / anomalous["width"]).median()) + 0.2
    with plt.rc_context(STYLE):
        size, shape = (8.6, height * -(-len(picks) // 2)), (-(-len(picks) // 2), 6)
        figure, axes = plt.subplots(*shape, figsize=size, layout="constrained", squeeze=False)
        for axis in axes.flat[3 * len(picks) :]:
            axis.set_axis_off()
        for three, record in zip(axes.reshape(-1, 3), anomalous.loc[picks].to_dict("records"), strict=False):
            image = read_grey8(folder / record["path"])
            mask = read_grey8(folder / record["mask"]) if record["mask"] else np.zeros_like(image)
            erased = folder / record["path"].replace("anomalous/", "normal/")
            after = read_grey8(erased if erased.exists() else folder / str(rng.choice(normal)))
            _panel(three[0], image, mask > 0, record["class"])
            _panel(three[1], mask, None, "mask")
            _panel(three[2], after, None, "after" if erased.exists() else "a normal image")
    return figure


def outliers(areas: pd.DataFrame) -> pd.DataFrame:
    """The masks whose area is unlike their class, the most unlike first."""
    unlike = areas[areas["z"].abs() > LIMIT]
    return unlike.reindex(unlike["z"].abs().sort_values(ascending=False, kind="stable").index)


def outlier_figure(folder: Path, unlike: pd.DataFrame, most: int = 12) -> Figure:
    """The images with the most unlike masks, outlined, with class, area and z."""
    shown, columns = unlike.head(most), 6
    rows = -(-len(shown) // columns)
    size = (1.45 * columns, 1.85 * rows)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
        for axis in axes.flat[len(shown) :]:
            axis.set_axis_off()
        for axis, record in zip(axes.flat, shown.to_dict("records"), strict=False):
            title = f"{record['class']}, {record['area']:.3g} %\nz = {number_text(record['z'], '+.1f')}"
            mask = read_grey8(folder / record["mask"]) > 0
            _panel(axis, read_grey8(folder / record["path"]), mask, title)
            axis.title.set_fontsize(8)
    return figure


def report_lines(preparation: dict[str, Any]) -> list[str]:
    """What preparation.json says, as Markdown list items: parameters, what was left out or doubted."""
    settings = ", ".join(f"`{key}` {value}" for key, value in preparation["parameters"].items())
    raw, report = preparation["raw"], preparation["report"]
    lines = [f"Parameters: {settings}; seed {preparation['seed']}."]
    lines.append(f"Raw images read: {raw['items']}, SHA-256 of them all `{raw['sha256'][:16]}…`.")
    if "read" in report:
        lines.append(f"Read from `{report['read']}`.")
    if "white" in report:
        lines.append(f"Grey scale: {report['black']:g} is black, {report['white']:g} is white.")
    lines += [f"Left out: {number} {name}." for name, number in report.get("left_out", {}).items()]
    for note, about in report.get("notes", {}).items():
        first = ", ".join(about["first"]) + ", …" * (about["images"] > 10)
        lines.append(f"{about['images']} {note}: {first}.")
    lines += report.get("doubts", [])
    groups: Sequence[list[str]] = report.get("duplicate_groups", [])
    if groups:
        across = len(report.get("duplicate_groups_across_splits", []))
        dropped = f"{len(report['dropped'])} dropped" if "dropped" in report else "all kept"
        said = f"{len(groups)}, {across} across the splits; {dropped}"
        lines.append(f"Pixel-identical groups of images: {said}.")
    for name, pair in report.get("unlike_standard_operating_conditions", {}).items():
        lines.append(f"Chips of {name}: {pair['found']} found, {pair['standard']} in the standard set.")
    removed = report.get("target_pixels_removed")
    if removed:
        lines.append(
            f"True target pixels that the removal filled: {100 * removed['mean_share']:.1f} % on average,"
            f" under half in {removed['images_under_half']} of {removed['images']} images."
        )
    return lines
