# %% [markdown]
# # How visible the fill is
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads prepared datasets and, for the part on PaDiM, the backbone's weights; writes `fill.csv` to the folder `results`.
# Needs no GPU; takes about two minutes for MSTAR and SSDD.
# :::
#
# What it measures, and why, is told in the chapter on the [deviations](deviations.ipynb) (D9).

# %% tags=["parameters"]
prepared = ["build/demo/prepared/demo_sea"]
results = "results/demo"  # the folder to write fill.csv to
backbone = "tf_efficientnet_lite0"
every = [1]  # for PaDiM, every n-th image of each dataset
image_size = 256
threads = 2

# %% tags=["hide-input"]
from pathlib import Path

import pandas as pd
import torch

from padim_ace.detect.backbones import load_backbone
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.fill_visibility import FILL, correlation_measures, padim_measures, pairs, thinned
from padim_ace.experiment.provenance import provenance
from padim_ace.experiment.results import write_csv
from padim_ace.report import html_tables

torch.set_num_threads(threads)
network = load_backbone(backbone, image_size=(image_size, image_size))
settings = Settings(seeds=(0,), image_size=(image_size, image_size), workers=threads)

# %% tags=["hide-input", "hide-output"]
rows = []
for folder, step in zip(prepared, every, strict=True):
    dataset = PreparedDataset.open(Path(folder))
    measures = correlation_measures(pairs(dataset)) | padim_measures(
        thinned(dataset, step), network, settings
    )
    rows += [(Path(folder).name, measure, value) for measure, value in measures.items()]

# %% tags=["hide-input"]
frame = pd.DataFrame(rows, columns=list(FILL))
write_csv(frame, Path(results) / "fill.csv")
wide = frame.pivot(index="measure", columns="dataset", values="value").reset_index()
html_tables.table(wide, "How well the fill is told from background.", "fill", form=".3f")

# %% tags=["remove-input"]
html_tables.sources([provenance(parameters={}, inputs={}, device="cpu", seconds=0)])
