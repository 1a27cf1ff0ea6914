# %% [markdown]
# # Image scores: histograms and clamping
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads `image_scores.npz` of scored datasets; writes `histograms.csv` and `clamp.csv` to the folder `results`. Needs no
# image and no GPU; takes about 20 s.
# :::
#
# What these are for is told in the chapter on the [deviations](deviations.ipynb) (D10, and the score histograms).

# %% tags=["parameters"]
runs = [
    "build/demo/score/demo_vehicle-tf_efficientnet_lite0",
    "build/demo/score/demo_sea-tf_efficientnet_lite0",
]
results = "results/demo"  # the folder to write the two tables to

# %% tags=["hide-input"]
from pathlib import Path

import pandas as pd

from padim_ace.image_scores import clamp_frame, histogram_frame, read_image_scores
from padim_ace.results import project_path, write_text

clamps, histograms = [], []
for run in runs:
    dataset, _, backbone = Path(run).name.partition("-")
    found = read_image_scores(project_path(run) / "image_scores.npz")
    clamps.append(clamp_frame(found, dataset, backbone))
    histograms.append(histogram_frame(found, dataset, backbone))
clamp = pd.concat(clamps, ignore_index=True)
for name, frame in {"clamp": clamp, "histograms": pd.concat(histograms)}.items():
    write_text(frame.to_csv(index=False, lineterminator="\n"), project_path(results) / f"{name}.csv")

# %% tags=["hide-input"]
columns = ["dataset", "detector", "covariance", "signature", "convention"]
clamp.groupby(columns)[["raw", "clamped", "tied"]].mean().round(4)
