# %% [markdown]
# # How visible the fill is
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads prepared datasets; writes `fill.csv` to the folder `results`. Needs no GPU; takes about a minute for MSTAR and SSDD.
# :::
#
# What it measures, and why, is told in the chapter on the [deviations](deviations.ipynb) (D9).

# %% tags=["parameters"]
prepared = ["build/demo/prepared/demo_sea"]
results = "results/demo"  # the folder to write fill.csv to

# %% tags=["hide-input"]
from pathlib import Path

import pandas as pd

from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.fill_visibility import FILL, correlation_measures, pairs
from padim_ace.experiment.provenance import provenance
from padim_ace.experiment.results import write_csv
from padim_ace.report import html_tables

rows = [
    (Path(folder).name, measure, value)
    for folder in prepared
    for measure, value in correlation_measures(pairs(PreparedDataset.open(Path(folder)))).items()
]
frame = pd.DataFrame(rows, columns=list(FILL))
write_csv(frame, Path(results) / "fill.csv")
wide = frame.pivot(index="measure", columns="dataset", values="value").reset_index()
html_tables.table(wide, "How well the fill is told from background.", "fill", form=".3f")

# %% tags=["remove-input"]
html_tables.sources([provenance(parameters={}, inputs={}, device="cpu", seconds=0)])
