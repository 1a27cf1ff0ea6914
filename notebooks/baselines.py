# %% [markdown]
# # Baselines
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads a prepared dataset; writes `scores.csv`, `provenance.json`, `not_run.csv` and `fill.csv` to the folder
# `out`. Needs
# neither weights nor a GPU for RX and CFAR; where the others' weights are not at hand the notebook says so and goes on. RX takes
# about 6 s for a demo dataset with 3 seeds, 4 minutes for MSTAR with 10. With names in `rivals` it runs these
# instead, for up to an hour a seed (`make rivals`).
# :::
#
# RX and CFAR on grey levels, and anomalib's own detectors, on the same images, splits and metrics as PaDiM and
# PaDiM-ACE. Metrics are of raw scores.

# %% tags=["parameters"]
dataset = "demo_sea"
profile = "demo"
prepared = "build/demo/prepared/demo_sea"
out = "build/demo/score/demo_sea-baselines"
seeds = [0, 1, 2]
image_size = 256
batch_size = 64
device = "cpu"
threads = 2
rivals = []

# %% tags=["hide-input"]
import time
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown, display

from padim_ace.experiment import results
from padim_ace.experiment.baseline_runs import run_baselines, run_rivals
from padim_ace.experiment.baselines import NOT_RUN
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.fill_visibility import fill_frame
from padim_ace.experiment.provenance import provenance
from padim_ace.report import html_tables

torch.set_num_threads(threads)
start = time.perf_counter()
folder = Path(out)
images = PreparedDataset.open(Path(prepared))
size = {"image_size": (image_size, image_size), "batch_size": batch_size}
settings = Settings(tuple(seeds), **size, device=device, workers=threads)

# %% tags=["hide-input", "hide-output"]
if rivals:
    frame, missing = run_rivals(images, dataset, settings, rivals), pd.DataFrame(columns=list(NOT_RUN))
else:
    frame, missing = run_baselines(images, dataset, settings, f"make book PROFILE={profile}")
    fill = fill_frame(images, dataset)
    results.write_csv(fill, folder / "fill.csv")

# %% tags=["hide-input"]
results.write_csv(missing, folder / "not_run.csv")
parameters = {"dataset": dataset, "seeds": seeds, "image_size": image_size, "batch_size": batch_size}
parameters |= {"threads": threads, "detectors": sorted(frame["detector"].unique())}
inputs, seconds = {"manifest": images.root / "manifest.csv"}, time.perf_counter() - start
origin = provenance(parameters=parameters, inputs=inputs, device=device, seconds=seconds)
results.write_json(origin, folder / "provenance.json")
results.write_scores(frame, folder / "scores.csv")

# %% [markdown]
# AUROC on the test images in %, mean over the seeds; how well the fill of erased targets is told from background
# ([D9](#the-fill)); and what was not run.

# %% tags=["hide-input"]
auroc = frame[frame["metric"] == "auroc"].assign(value=lambda rows: 100 * rows["value"])
columns = ["protocol", "detector"]
shown = auroc.pivot_table(index=columns, columns="level", values="value", sort=False).reset_index()
shown = shown.rename(columns=str.capitalize)
display(html_tables.table(shown, "AUROC in %.", f"baselines_{dataset}", form=".1f"))
if not rivals and len(fill):
    display(html_tables.table(fill.iloc[:, 1:], "The fill.", f"fill_{dataset}", form=".3f"))
if len(missing):
    left_out = missing.rename(columns=str.capitalize)
    display(html_tables.table(left_out, "Not run here.", f"not_run_{dataset}"))
else:
    display(Markdown("Everything was run."))

# %% tags=["remove-input"]
html_tables.sources([origin])
