"""Figures of the chapter on the deviations; each comes with the words for those who do not see it."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from padim_ace.paper.detectors import READINGS
from padim_ace.report.figures import COLOURS, HEAT, INK, STYLE
from padim_ace.report.titles import dataset_title, detector_title

Background = Float[np.ndarray, "background 2"]
Target = Float[np.ndarray, "target 2"]
FeatureMaps = Float[np.ndarray, "feature patch_row patch_column"]


def simulated_features(
    seed: int = 0,
) -> tuple[Background, Target, Float[np.ndarray, " 2"], Float[np.ndarray, "2 2"]]:
    """Background and target points of a Gaussian with two features, the target's mean, the covariance.

    The background spreads eight times as far one way as the other, and the target a little less than it.
    """
    generator = np.random.default_rng(seed)
    angle = np.deg2rad(35)
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = axes @ np.diag([16.0, 0.25]) @ axes.T
    target = axes @ np.array([-1.0, 1.2])
    factor = np.linalg.cholesky(covariance)
    background = generator.normal(size=(400, 2)) @ factor.T
    return background, target + 0.8 * generator.normal(size=(60, 2)) @ factor.T, target, covariance


def power(covariance: Float[np.ndarray, "2 2"], exponent: float) -> Float[np.ndarray, "2 2"]:
    """A power of a symmetric positive matrix, by its eigenvalues."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors @ np.diag(values**exponent) @ vectors.T


def ace_auroc(background: Background, target: Target, signature: Float[np.ndarray, " 2"]) -> float:
    """AUROC of the cosine with ``signature``, in a space that was transformed already."""
    low, high = (points @ signature / np.linalg.norm(points, axis=1) for points in (background, target))
    return float(np.mean(high[:, None] > low) + np.mean(high[:, None] == low) / 2)


def whitening_figure() -> tuple[Figure, str]:
    """D1: what Σ^(-1/2) and Σ^(+1/2) make of the same features."""
    background, target, signature, covariance = simulated_features()
    spaces = {
        "features": np.eye(2),
        "whitened, Σ$^{-1/2}$": power(covariance, -0.5),
        "the published code, Σ$^{+1/2}$": power(covariance, 0.5),
    }
    aurocs = []
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
        for axis, (name, matrix) in zip(axes, spaces.items(), strict=True):
            clouds = {"background": background @ matrix, "target": target @ matrix}
            aurocs.append(100 * ace_auroc(clouds["background"], clouds["target"], signature @ matrix))
            for (label, points), colour in zip(clouds.items(), COLOURS, strict=False):
                axis.scatter(*points.T, s=9, alpha=0.6, color=colour, lw=0, label=label)
            _ellipse(axis, matrix @ covariance @ matrix)
            tip = signature @ matrix
            axis.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "->", "color": INK, "lw": 1.8})
            axis.set_title(f"{name}\nAUROC of the cosine: {aurocs[-1]:.0f} %", fontsize=10)
            limit = 1.05 * max(np.abs(points).max() for points in clouds.values())
            axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
        axes[0].legend(loc="lower right", handletextpad=0.1)
    alt = (
        "Background and target points in three spaces, with the background's 2-sigma ellipse and an arrow to "
        "the target signature. In feature space the background is a long, narrow ellipse with the targets at "
        "its edge. Whitened, it is a circle and the targets stand clear on one side of it, in the direction "
        "of the signature. Transformed by the square root of the covariance it is a thin line, and so are "
        "the targets within it. The AUROC of the cosine with the signature is "
        + ", ".join(f"{value:.0f} %" for value in aurocs)
        + "."
    )
    return figure, alt


def _ellipse(axis: Any, covariance: Float[np.ndarray, "2 2"]) -> None:
    values, vectors = np.linalg.eigh(covariance)
    width, height = 4 * np.sqrt(values)
    turned = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    axis.add_patch(Ellipse((0, 0), width, height, angle=turned, fill=False, ec=INK, lw=1.2, ls="--"))


def signature_maps(
    images: UInt8[np.ndarray, "image row column"], backbone: str, features: int = 100, seed: int = 0
) -> tuple[FeatureMaps, FeatureMaps]:
    """D3: the mean embedding of images as feature maps, and the same as the published code reads it."""
    import torch

    from padim_ace.detect.backbones import load_backbone
    from padim_ace.detect.embedding import Embedder, FeatureSubset
    from padim_ace.detect.pyramid import flatten
    from padim_ace.detect.signature import MeanSignature
    from padim_ace.paper.published_code import scramble

    grey = torch.from_numpy(images).float().div(255).unsqueeze(1)
    size = (images.shape[1], images.shape[2])
    network = load_backbone(backbone, image_size=size)
    embedder = Embedder(network, size)
    subset = FeatureSubset.draw(embedder.channels, features, seed)
    mean = MeanSignature()
    with torch.inference_mode():
        mean.update(subset.select(embedder(network.normalise(grey))))
        true = flatten(mean.mean())[:, 0]
        wrong = scramble(true, embedder.raster, seed)
        return embedder.to_raster(true).numpy(), embedder.to_raster(wrong).numpy()


def signature_figure(images: UInt8[np.ndarray, "image row column"], backbone: str) -> tuple[Figure, str]:
    """D3: four features of a mean signature, and what the published code takes them for."""
    true, wrong = signature_maps(images, backbone)
    deviation = true.reshape(len(true), -1).std(1)
    chosen = np.sort(np.argsort(-deviation)[:4])
    correlation = [np.corrcoef(true[f].ravel(), wrong[f].ravel())[0, 1] for f in range(len(true))]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 5, figsize=(8.6, 3.7), layout="constrained")
        axes[0, 0].imshow(images.mean(0), cmap="gray")
        axes[0, 0].set_title("mean image", fontsize=9)
        axes[1, 0].set_axis_off()
        for column, feature in enumerate(chosen, 1):
            axes[0, column].set_title(f"feature {feature}", fontsize=9)
            for row, maps in enumerate((true, wrong)):
                axes[row, column].imshow(maps[feature], cmap=HEAT)
        axes[0, 1].set_ylabel("mean signature", fontsize=9)
        axes[1, 1].set_ylabel("as the code reads it", fontsize=9)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
    alt = (
        f"Four of the {len(true)} features of the mean embedding of {len(images)} simulated vehicles, as "
        "maps, with a bright or dark spot where the vehicle is; below them what the published code takes for "
        "the same features: fine stripes without the spot, the values of other features and places. Over all "
        f"features the two correlate by {np.mean(correlation):.2f} on average."
    )
    return figure, alt


def histogram_figure(frame: pd.DataFrame) -> tuple[Figure, str]:
    """Histograms of image scores, of the rows of ``histograms.csv`` of one backbone."""
    datasets = list(dict.fromkeys(frame["dataset"]))
    overlaps = []
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(datasets), len(READINGS), squeeze=False, layout="constrained",
            figsize=(1.9 * len(READINGS), 0.6 + 1.6 * len(datasets)),
        )  # fmt: skip
        for line, dataset in zip(axes, datasets, strict=True):
            for axis, detector in zip(line, READINGS, strict=True):
                where = {"dataset": dataset, **detector.row()}
                rows = frame[(frame[list(where)] == list(where.values())).all(axis=1)]
                shares = []
                for label, colour, style in (("normal", COLOURS[0], "-"), ("anomalous", COLOURS[1], "--")):
                    part = rows[rows["label"] == label].sort_values("low")
                    share = (part["count"] / part["count"].sum()).to_numpy()
                    edges = [*part["low"], *part["high"].tail(1)]
                    axis.stairs(share, edges, color=colour, fill=True, alpha=0.3)
                    axis.stairs(share, edges, color=colour, lw=1.2, ls=style, label=label)
                    shares.append(share)
                title = detector_title(detector)
                overlap = 100 * np.minimum(*shares).sum()
                overlaps.append(f"{dataset_title(dataset)}, {title}: {overlap:.0f} %")
                axis.set_yticks([])
                axis.spines["left"].set_visible(False)
                axis.tick_params(labelsize=8)
                if axis in axes[0]:
                    axis.set_title(title.replace(", ", ",\n"), fontsize=9)
            line[0].set_ylabel(dataset_title(dataset))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    alt = "Histograms of the image scores of normal and anomalous test images. Their overlap: "
    return figure, alt + "; ".join(overlaps) + "."


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
