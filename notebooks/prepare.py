# %% [markdown]
# # Preparation
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads a raw release (or simulates one); writes a prepared dataset: PNG files, `manifest.csv` and
# `preparation.json` ([format](prepared_format.md)). Needs no GPU; takes half a minute for the 5,171 chips of MSTAR on
# two cores, seconds for the others. Run again, it resumes.
# :::

# %% tags=["parameters"]
dataset = "demo_sea"  # mstar, ssdd, hrsid, folder, demo_vehicle, demo_sea, demo_harbour
data = ""  # folder that holds the real releases, each in its own subfolder or not (PADIM_ACE_DATA)
raw = "build/demo/raw/demo_sea"  # simulated images, or a user's own folder
out = "build/demo/prepared/demo_sea"
seed = 0
processes = 2
settings = {}  # parameters of the dataset, such as {"tile_size": 200} of hrsid

# %% tags=["hide-input"]
import json
from pathlib import Path

from IPython.display import Markdown, display

from data_prep import figures, prepare, read_manifest
from padim_ace.report import html_tables
from padim_ace.report.figures import show
from padim_ace.report.titles import dataset_title

title = dataset_title(dataset)
source = data if dataset in ("mstar", "ssdd", "hrsid") else raw
folder = prepare(
    dataset,
    Path(source) if source else None,
    Path(out),
    seed=seed,
    processes=processes,
    **settings,
)
manifest = read_manifest(folder)
preparation = json.loads((folder / "preparation.json").read_text())
anomalous = manifest[manifest["label"] == "anomalous"]
display(Markdown(f"**{title}**: {len(manifest)} images prepared, {len(anomalous)} of them with targets."))

# %% [markdown]
# ## Before, mask, after
#
# The outline on each image is its mask. *After* is the normal image made from the same image by removing the
# target, or, where the dataset has target-free images of its own, one of those.

# %% tags=["hide-input"]
show(
    figures.examples(folder, manifest),
    f"Examples of {title}: images with targets and the outline of their mask, the masks, and normal images.",
)

# %% [markdown]
# ## Counts

# %% tags=["hide-input"]
html_tables.table(
    figures.counts(manifest).reset_index(), "Images by class, split and label.", f"counts_{dataset}"
)

# %% tags=["hide-input"]
Markdown("\n".join(f"- {line}" for line in figures.report_lines(preparation)))

# %% [markdown]
# ## Areas of the masks

# %% tags=["hide-input"]
areas = figures.mask_areas(folder, manifest)
show(
    figures.area_figure(areas),
    f"Histogram of the mask areas of {title}: median {areas['area'].median():.2g} % of the image,"
    f" from {areas['area'].min():.2g} % to {areas['area'].max():.2g} %.",
)

# %% [markdown]
# ## Masks unlike their class
#
# Masks whose area is far from that of their class, by a robust standard score of its logarithm beyond 3.5: where
# the masks come from the target removal, these are the images to look at, for there it may have failed; where they
# come with the release, they are unusually small or large targets.

# %% tags=["hide-input"]
unlike = figures.outliers(areas)
display(Markdown(f"{len(unlike)} of {len(areas)} masks ({100 * len(unlike) / max(len(areas), 1):.1f} %)."))
if len(unlike):
    display(
        show(
            figures.outlier_figure(folder, unlike), f"The images of {title} with the most unusual mask areas."
        )
    )
