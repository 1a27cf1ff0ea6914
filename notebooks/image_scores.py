# %% [markdown]
# # Image scores: histograms, clamping and sizes of targets
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads `image_scores.npz` of scored datasets and the masks of their prepared images; writes `histograms.csv`, `clamp.csv` and
# `areas.csv` to the folder `results`. Needs no GPU; takes about 20 s.
# :::
#
# What these are for is told in the chapters on the [deviations](deviations.ipynb) (D10, and the score histograms) and
# [beyond the paper](beyond.ipynb) (where it still fails).

# %% tags=["parameters"]
runs = ["build/demo/score/demo_sea-tf_efficientnet_lite0"]
prepared = ["build/demo/prepared/demo_sea"]  # of each run
results = "results/demo"  # the folder to write the tables to

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
import pandas as pd

from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.image_scores import area_frame, clamp_frame, histogram_frame, read_image_scores
from padim_ace.experiment.results import NAMES, write_csv
from padim_ace.paper.detectors import BY_AREA, READINGS, SHOWN
from padim_ace.report import html_tables

clamps, histograms, areas = [], [], []
for run, folder in zip(runs, prepared, strict=True):
    dataset, _, backbone = Path(run).name.partition("-")
    found = read_image_scores(Path(run) / "image_scores.npz")
    clamps.append(clamp_frame(found, READINGS, dataset, backbone))
    histograms.append(histogram_frame(found, SHOWN, dataset, backbone))
    images = PreparedDataset.open(Path(folder))
    if images.has_masks:
        covered = np.array([images.mask(i, (256, 256)).float().mean().item() for i in range(len(images))])
        areas.append(area_frame(found, BY_AREA, covered, dataset, backbone))
clamp = pd.concat(clamps, ignore_index=True)
tables = {"clamp": clamp, "histograms": pd.concat(histograms), "areas": pd.concat(areas)}
for name, frame in tables.items():
    write_csv(frame, Path(results) / f"{name}.csv")

# %% tags=["hide-input"]
columns = ["dataset", *NAMES]
mean = clamp.groupby(columns, sort=False)[["raw", "clamped", "tied"]].mean().reset_index()
caption = "Image AUROC from raw and from clamped scores, and the part of the images that the clamp ties; mean over the seeds."
html_tables.table(mean.rename(columns=str.capitalize), caption, "clamp_mean", ".4f")
