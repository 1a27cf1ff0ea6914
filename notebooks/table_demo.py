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
from pathlib import Path

from IPython.display import HTML, display

from padim_ace.experiment.results import read_scores
from padim_ace.report import html_tables, tables

scores = read_scores(Path(results) / "scores.csv")
settings = tables.demo_settings()
for name in sorted(set(scores["dataset"])):
    frame = tables.compare(settings, scores, name)
    caption = f"{tables.DATASETS.get(name, name)}"
    display(HTML(html_tables.to_html(frame, caption, "Detector", f"table_{name}")))

# %% [markdown]
# ## Where the numbers come from

# %% tags=["remove-input"]
HTML(html_tables.provenance_html(Path(results)))
