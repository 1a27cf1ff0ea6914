# %% [markdown]
# # The paper's Tables 1 to 4, in full
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads `results/paper/scores.csv`, its provenance, and `book/published.csv`; writes nothing. Needs no image and
# no GPU; takes about 5 s.
# :::

# %% tags=["parameters"]
table = 2  # 1 to 4
results = "results/paper"  # a folder with scores.csv and provenance.json
published = "book/published.csv"  # the paper's numbers

# %% tags=["title"]
from IPython.display import Markdown, display

ABOUT = {
    1: """\
# Table 1 in full: all detectors

PaDiM-ACE stands here in [three readings](#three-readings): what the paper's program computes (*published code*), the paper's
*equation (1)*, and the ACE statistic as it is defined (*centred*). MSTAR has no pixel AUROC in the paper; the pixel truth
here is the mask that target removal made. SSDD stands here twice: the paper removed its ships by k-means, which leaves
some of them in the normal images ([what that does](#ssdd-in-two-ways)); the release's own masks remove them all, but none
of the paper's numbers was made so. HRSID is a subset of the release.
""",
    2: """\
# Table 2 in full: backbones

PaDiM-ACE and PaDiM with different networks, three stages of each, 100 random features of their channels.
EfficientNet-Lite0 is not in the paper; it is the backbone of the demo. *Random weights* are those with which
timm makes a network before it is trained: what a row scores there is owed to the architecture, not to ImageNet.
""",
    3: """\
# Table 3 in full: kinds of covariance

PaDiM-ACE with a full, a diagonal and an isotropic covariance of the background. The isotropic one is
the mean of the diagonal times the identity, as the paper describes it. ([](#table-4) has the other ways.)
""",
    4: """\
# Table 4 in full: aggregations of an isotropic covariance

Four ways to make one number $c$ of a covariance, for $\\Sigma = c I$. ACE does not depend on $c$
([the proof](#four-aggregations-one-detector) takes two lines), so one detector stands here beside the paper's
four numbers. They differ by up to 16 points: that is how far the paper's runs are apart.
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
display(Markdown(tables.LEGEND))
for dataset in ["mstar", "ssdd_kmeans", "ssdd", "hrsid"] if table == 1 else ["hrsid", "mstar", "ssdd"]:
    frame = tables.compare(settings, scores, dataset, published=paper, number=table, not_run=not_run)
    display(tables.draw(frame, f"Table {table}, {dataset_title(dataset)}", f"table_{table}_{dataset}", table))

# %% [markdown]
# ## Where the numbers come from

# %% tags=["remove-input"]
html_tables.provenance(results)
