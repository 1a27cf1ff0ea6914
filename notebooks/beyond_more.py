# %% [markdown]
# (beyond-more)=
# # Beyond the paper: all numbers
#
# What stands behind [](beyond.ipynb): every metric, what each choice is worth, how few anomalous images will do, and all
# other detectors.
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads `scores.csv`, `rivals.csv`, `validation.csv`, `supervision.csv` and the provenance in `results/paper`; writes nothing. Needs no
# image and no GPU; takes about 6 s.
# :::

# %% tags=["parameters"]
results = "results/paper"  # a folder with scores.csv, the tables beside it and provenance.json
backbone = "resnet18"

# %% tags=["hide-input"]
from pathlib import Path

from IPython.display import display

from padim_ace.experiment.results import read_csv, read_scores
from padim_ace.report import beyond, figures, html_tables
from padim_ace.report.titles import dataset_title

folder = Path(results)
every = read_scores(folder)
scores = every[every["backbone"].eq(backbone) | ~every["background"].astype(bool)]
few, validation = (
    read_csv(folder / f"{name}.csv").query("backbone == @backbone").astype({"value": float, "seed": int})
    for name in ("supervision", "validation")
)
few = few.astype({"images": int})
datasets = ["ssdd", "hrsid", "mstar"]
shown = [(beyond.COMPARED, dataset, beyond.METRICS, dataset_title(dataset)) for dataset in datasets]
for who, dataset, metrics, title in [
    *shown,
    (beyond.COMPARED, "mstar", beyond.VEHICLE, "MSTAR, the vehicle alone"),
]:
    frame = beyond.comparison(scores, who, [dataset], metrics)
    display(
        beyond.comparison_table(
            frame, f"<strong>{title}</strong>, %.", f"beyond_{title.split()[-1]}_{dataset}"
        )
    )

# %% [markdown]
# What counts as a target's pixels on MSTAR is all that the k-means removed: vehicle *and* shadow, with a margin. The last table
# takes the vehicle's own mask. anomalib's MH-PatchCore and PatchCore take hours on a processor: they have rows where
# `make rivals` has run. ▼ and ▲ as in [the chapter](beyond.ipynb).
#
# ## What the validation images say
#
# Every choice was made on validation images. A row changes one thing, and shows the change there in points; ▲ and ▼ where it is
# beyond its interval. A seed's test images had no part in its choice. But what one seed tests another validates, so a
# choice that is made once for all seeds has seen them all. The differences to the rivals are many times those between the choices.

# %% tags=["hide-input"]
parts = ["as recommended", "no SAR channels", "no grey levels", "no peak", "no power"]
choices = [name for name in beyond.CHANGED if name not in parts[1:]]
for names, name in ((parts, "channels"), (choices, "choices")):
    caption = (
        "Means of the recommended detector, %, and what one change does to them, points; validation images."
    )
    display(beyond.changes_table(validation, names, ["ssdd", "hrsid"], caption, f"beyond_{name}"))

# %% [markdown]
# *Masked* needs masks of the training images. *Kelly's statistic* and *ACE* have the same signature. *Shared* has one background for all places,
# which a whole scene asks for.
#
# ## With how few anomalous images?
#
# The signature of 1, 5, 20, 100 and all anomalous training images. Where there are none, what is left is PaDiM with the SAR
# channels, the solid line.

# %% tags=["hide-input"]
drawn, alt = beyond.supervision_figure(few, scores, datasets, [("image", "auroc"), ("pixel", "ap")])
caption = "Mean over the seeds with its 95 % interval; PaDiM dashed, PaDiM with SAR channels solid."
figures.show(drawn, alt, caption, data=few)

# %% [markdown]
# ## All others
#
# Rows that use anomalous images stand beside an equal in supervision: *logistic regression* is the plain kind, on
# the same whitened patches, each with its image's label.

# %% tags=["hide-input"]
for dataset in [*datasets, "ssdd_kmeans"]:
    frame = beyond.comparison(scores, beyond.OTHERS, [dataset])
    caption = f"<strong>{dataset_title(dataset)}</strong>, %."
    display(beyond.comparison_table(frame, caption, f"beyond_others_{dataset}"))

# %% [markdown]
# **Tried and dropped.** Means of the farthest patches (*mined*), Fisher's discriminant against clutter (*contrast*), subspaces of 2 to 16
# directions, backgrounds shrunk towards their mean, pooled covariances and the plain matched filter: on validation images none was better
# than the learnt signature with the tolerant statistic. Two sizes of ring, and a channel of fine detail, changed nothing that could be measured.
#
# ## Where the numbers come from

# %% tags=["remove-input"]
html_tables.provenance(folder)
