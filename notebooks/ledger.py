# %% [markdown]
# (the-ledger)=
# # Ledger: every number of the paper
#
# Each number of the paper's Tables 1 to 4, with what stands beside it here and a verdict:
#
# - **reproduced**: the two means, each over three runs, are within two standard errors of their difference,
#   $2\sqrt{s_\mathrm{paper}^2/3 + s_\mathrm{here}^2/n}$;
# - **differs**: they are not, and the letter leads to what is known to set them apart, below the table;
# - **not run**: weights or data were not at hand, and the letter leads to which, and how to run it.
#
# *Here* is what the paper describes: targets removed as it says, from SSDD by k-means, and PaDiM-ACE in the reading
# *published code*. The verdict is on that. Three columns beside it are not compared with the paper: PaDiM-ACE's other two
# readings, and *masks*, the detector of *here* on SSDD with its targets removed by the release's own masks
# ([the deviations](#ssdd-in-two-ways) say what that changes).
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

from padim_ace.experiment.results import read_scores
from padim_ace.paper.published import read_not_run, read_published
from padim_ace.report import html_tables
from padim_ace.report.ledger import draw, ledger, prepared_images

scores = read_scores(results)
paper = read_published(Path(published))
draw(ledger(paper, scores, read_not_run(Path(results) / "not_run.csv"), prepared_images(results)))

# %% [markdown]
# ## Where the numbers come from

# %% tags=["remove-input"]
html_tables.provenance(results)
