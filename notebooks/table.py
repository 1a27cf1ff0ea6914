# %% [markdown]
# # The paper's Tables 2, 3 and 4
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads `results/paper/scores.csv`, its provenance, and `book/published.csv`; writes nothing. Needs no image and
# no GPU; takes about 5 s.
# :::

# %% tags=["parameters"]
table = 2  # 2, 3 or 4
results = "results/paper"  # a folder with scores.csv and provenance.json
published = "book/published.csv"  # the paper's numbers

# %% tags=["title"]
from IPython.display import Markdown, display

ABOUT = {
    2: """\
# Table 2: backbones

PaDiM-ACE on HRSID with different feature extractors, three stages of each, 100 random features of their
channels. EfficientNet-Lite0 is not in the paper; it is the backbone of the demo. *Random weights* are those with which
timm makes a network before it is trained: what remains of a row's number there is the architecture's, not ImageNet's.
""",
    3: """\
# Table 3: kinds of covariance

PaDiM-ACE on HRSID with a full, a diagonal and an isotropic covariance of the background. The isotropic one is
the mean of the diagonal times the identity, as the paper describes it. ([](#table-4) has the other ways.)
""",
    4: """\
# Table 4: aggregations of an isotropic covariance

Four ways to make one number $c$ of a covariance, for $\\Sigma = c I$. The paper finds differences of up to 16
points between them. There can be none: ACE does not depend on $c$, as
[the method page](#four-aggregations-one-detector) shows in two lines. So one detector stands here beside the
paper's four numbers. What they show is how far the paper's runs are apart.
""",
}
display(Markdown(f"(table-{table})=\n{ABOUT[table]}"))

# %% tags=["hide-input"]
from pathlib import Path

from padim_ace.experiment.results import read_scores
from padim_ace.paper.published import read_not_run, read_published
from padim_ace.report import html_tables, tables
from padim_ace.report.titles import dataset_title

scores = read_scores(results)
paper = read_published(Path(published))
not_run = read_not_run(Path(results) / "not_run.csv")
settings = tables.table_settings(table)

frame = tables.compare(settings, scores, "hrsid", published=paper, number=table, not_run=not_run)
tables.draw(frame, f"Table {table}, HRSID", f"table_{table}_hrsid", table)

# %% [markdown]
# ## On MSTAR and SSDD
#
# The paper has this table for HRSID only. The same settings on the two datasets that are here in full:

# %% tags=["hide-input"]
for dataset in ("mstar", "ssdd"):
    frame = tables.compare(settings, scores, dataset)
    caption = f"Table {table}, {dataset_title(dataset)} (not in the paper)"
    display(tables.draw(frame, caption, f"table_{table}_{dataset}", table))

# %% [markdown]
# ## Where the numbers come from

# %% tags=["remove-input"]
html_tables.provenance(results)
