# %% [markdown]
# (table-4)=
# # Table 4: aggregations of an isotropic covariance
#
# Four ways to make one number $c$ of a covariance, for $\Sigma = c I$. The paper finds differences of up to 16
# points between them. There can be none: [the method page](#four-aggregations-one-detector) has the proof in two
# lines, and the rows below its numbers: within a reading and a seed they are the same up to rounding. What the
# paper's Table 4 shows is how far its runs are apart.
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
settings = tables.table_settings(4)

frame = tables.compare(settings, scores, "hrsid", paper, 4, not_run)
HTML(html_tables.to_html(frame, "Table 4, HRSID", "Aggregation", "table_4_hrsid"))

# %% [markdown]
# ## On MSTAR and SSDD
#
# The paper has this table for HRSID only. The same settings on the two datasets that are here in full:

# %% tags=["hide-input"]
for name in ("mstar", "ssdd"):
    frame = tables.compare(settings, scores, name)
    caption = f"Table 4, {tables.DATASETS[name]} (not in the paper)"
    display(HTML(html_tables.to_html(frame, caption, "Aggregation", f"table_4_{name}")))

# %% [markdown]
# ## Where the numbers come from

# %% tags=["remove-input"]
HTML(html_tables.provenance_html(Path(results)))
