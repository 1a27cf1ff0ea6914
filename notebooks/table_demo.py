# %% [markdown]
# (table-demo)=
# # Demo: simulated radar images
#
# The same detectors on three small simulated datasets, with a backbone whose weights come with a package. This
# page needs no download, so it can be made anywhere, by `make book`. Its numbers say that the way from images to
# table works; they say nothing about the paper.
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads `results/demo/scores.csv` and its provenance; writes nothing. Needs no image and no GPU; takes about 5 s.
# :::

# %% tags=["parameters"]
results = "results/demo"  # a folder with scores.csv and provenance.json

# %% tags=["hide-input"]
from IPython.display import display

from padim_ace.experiment.results import read_scores
from padim_ace.report import html_tables, tables
from padim_ace.report.titles import dataset_title

scores = read_scores(results)
for dataset in sorted(set(scores["dataset"])):
    settings = tables.table_settings(0, "tf_efficientnet_lite0")
    frame = tables.compare(settings, scores, dataset, protocol="scenes")
    display(tables.draw(frame, dataset_title(dataset), f"table_{dataset}"))

# %% [markdown]
# ## Where the numbers come from

# %% tags=["remove-input"]
html_tables.provenance(results)
