# %% [markdown]
# (table-2)=
# # Table 2: backbones
#
# PaDiM-ACE on HRSID with different feature extractors, three stages of each, 100 random features of their
# channels. EfficientNet-Lite0 is not in the paper; it is the backbone of the demo.
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads `results/paper/scores.csv`, its provenance, and `book/published.csv`; writes nothing. Needs no image and
# no GPU; takes about 5 s.
# :::

# %% tags=["parameters"]
results = "results/paper"  # a folder with scores.csv and provenance.json
published = "book/published.csv"  # the paper's numbers

# %% tags=["hide-input"]
from pathlib import Path

from IPython.display import HTML, display

from padim_ace.experiment.results import read_scores
from padim_ace.paper.published import read_not_run, read_published
from padim_ace.report import html_tables, tables

scores = read_scores(Path(results) / "scores.csv")
paper = read_published(Path(published))
not_run = read_not_run(Path(results) / "not_run.csv")
settings = tables.table_settings(2)

frame = tables.compare(settings, scores, "hrsid", paper, 2, not_run)
HTML(html_tables.to_html(frame, "Table 2, HRSID", "Backbone", "table_2_hrsid"))

# %% [markdown]
# ## On MSTAR and SSDD
#
# The paper has this table for HRSID only. The same settings on the two datasets that are here in full:

# %% tags=["hide-input"]
for name in ("mstar", "ssdd"):
    frame = tables.compare(settings, scores, name)
    caption = f"Table 2, {tables.DATASETS[name]} (not in the paper)"
    display(HTML(html_tables.to_html(frame, caption, "Backbone", f"table_2_{name}")))

# %% [markdown]
# ## Where the numbers come from

# %% tags=["remove-input"]
HTML(html_tables.provenance_html(Path(results)))
