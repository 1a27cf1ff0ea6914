# %% [markdown]
# (the-ledger)=
# # Ledger: every number of the paper
#
# Each number of the paper's Tables 1 to 4, with what stands beside it here and a verdict:
#
# - **reproduced**: the 90 % interval of the difference lies within ±5 points. That is a test of equivalence: two one-sided
#   tests at 5 %. Five points are what the tables of this literature treat as a difference between detectors; the margin was
#   fixed before any verdict was drawn by it, and is the same for every row;
# - **differs**: it does not, and it excludes zero. The letter leads to what is known to set the two apart, below the table;
# - **inconclusive**: neither. *Would decide* says how many seeds here, or else how many runs of the paper's, would have made it
#   one or the other with means and spreads as they are, and how much of the interval *stays* however many seeds there are;
# - **not run**: weights or data were not at hand, and the letter leads to which, and how to run it.
#
# Here a number is the mean over all seeds, of the [protocol](#two-protocols) `paper`. The paper gives the mean and the standard deviation of three runs, and no more: its
# runs are not known, so its spread enters as that of three random splits as ours are. The variance of the difference is
# $s_\mathrm{paper}^2(1/3 + 1/8) + s_\mathrm{here}^2(1/J + 1/8)$ for $J$ seeds, with the degrees of freedom of Welch and
# Satterthwaite; the 1/8 is for [splits that overlap](#about-intervals). Three runs say little: alone they leave twice
# their standard deviation to either side.
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
not_run = read_not_run(Path(results) / "not_run.csv")
draw(ledger(paper, scores, not_run=not_run, images=prepared_images(results)))

# %% [markdown]
# ## Where the numbers come from

# %% tags=["remove-input"]
html_tables.provenance(results)
