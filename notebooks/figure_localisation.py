# %% [markdown]
# # Localisation
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads `maps.npz` of a scored dataset; writes nothing. Needs no GPU; takes about 6 s.
# :::

# %% tags=["parameters"]
dataset = "demo_sea"
maps = "build/demo/score/demo_sea-tf_efficientnet_lite0/maps.npz"  # empty: not at hand

# %% tags=["hide-input"]
from pathlib import Path

from IPython.display import Markdown, display

from padim_ace.report import figures
from padim_ace.report.titles import dataset_title

title = dataset_title(dataset)
profile = "demo" if dataset.startswith("demo") else "paper"
if maps:
    display(figures.localisation_page(Path(maps), title))
else:
    where = "" if profile == "demo" else " PADIM_ACE_DATA=<folder> PADIM_ACE_WEIGHTS=<folder>"
    display(
        Markdown(
            f"The images of {title} are not part of this project, and this book was built without them. "
            f"To see them here, with their heat maps: `make book PROFILE={profile}{where}`."
        )
    )
