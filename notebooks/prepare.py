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
dataset = "demo_sea"  # a name of data_prep.DATASETS, or folder for your own images
data = ""  # folder that holds the real releases, each in its own subfolder or not (PADIM_ACE_DATA)
raw = "build/demo/raw/demo_sea"  # simulated images, or a user's own folder
out = "build/demo/prepared/demo_sea"
seed = 0
processes = 2
settings = {}  # parameters of the dataset, such as {"tile_size": 200}

# %% tags=["hide-input"]
import json
from pathlib import Path

from IPython.display import Markdown, display

from data_prep import DATASETS, prepare, read_manifest
from padim_ace.report import html_tables
from padim_ace.report import preparation as page
from padim_ace.report.figures import show

title = DATASETS[dataset].title
source = data if DATASETS[dataset].folder else raw
place = Path(source) if source else None
folder = prepare(dataset, place, Path(out), seed=seed, processes=processes, **settings)
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
    page.examples(folder, manifest),
    f"Examples of {title}: images with targets and the outline of their mask, the masks, and normal images.",
)

# %% [markdown]
# ## Counts

# %% tags=["hide-input"]
html_tables.table(
    page.counts(manifest).reset_index(), "Images by class, split and label.", f"counts_{dataset}"
)

# %% tags=["hide-input"]
Markdown("\n".join(f"- {line}" for line in page.report_lines(preparation)))

# %% [markdown]
# ## Areas of the masks
#
# A mask is unlike its class where a robust standard score of the logarithm of its area is beyond 3.5: where the masks
# come from the target removal, these are the images to look at, for there it may have failed; where they come with the
# release, they are unusually small or large targets.

# %% tags=["hide-input"]
areas = page.mask_areas(folder, manifest)
unlike = page.outliers(areas)
share = areas["area"]
said = f"{len(unlike)} of {len(areas)} masks are unlike their class. They cover {share.min():.2g} % to {share.max():.2g} % of"
display(
    Markdown(
        f"{said} the image, in the median {share.median():.2g} %." if len(areas) else "There are no masks."
    )
)
if len(unlike):
    show(page.outlier_figure(folder, unlike), f"The images of {title} with the most unusual mask areas.")
