# %% [markdown]
# # A whole scene
#
# A scene goes in, of any size; boxes on a map come out. Nothing is cut into chips by hand, and the threshold is a
# false-alarm rate.
#
# ```bash
# python -m data_prep.simulation.whole scenes                    # or a scene of your own
# padim-ace fit scenes/sea.tif -o sea.pt
# padim-ace detect sea.pt scenes/ships.tif --pfa 1e-6 -o found   # found/ships.{score.tif,geojson,png}
# ```
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads whole scenes: simulated ones, or the images of HRSID in the folder `data`; writes models and what they find to
# the folder `out`. Needs the backbone's weights, no GPU; takes two minutes on two cores.
# :::

# %% tags=["parameters"]
data = ""  # the folder that holds HRSID; simulated scenes without
out = "build/demo/whole_scene"
backbone = "tf_efficientnet_lite0"
pfa = 1e-6
size = 2048  # of a simulated scene
threads = 2

# %% tags=["hide-input"]
import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rasterio
import torch
from matplotlib.patches import Rectangle

from data_prep.datasets import coco
from data_prep.simulation.whole import write_scene
from padim_ace import scene
from padim_ace.experiment.froc import cfar, froc
from padim_ace.experiment.rx import local_rx
from padim_ace.report import figures, html_tables

torch.set_num_threads(threads)
folder = Path(out)


def simulated():
    """Scenes without ships, scenes that show targets, and tested scenes with the boxes of their ships."""
    write_scene(folder / "sea.tif", (size, size), 0, seed=1)
    write_scene(folder / "train.tif", (size // 2, size // 2), 12, seed=2)
    return [folder / "sea.tif"], [folder / "train.tif"], {
        folder / "ships.tif": write_scene(folder / "ships.tif", (size, size), 40, seed=3)
    }


def hrsid():
    """The release's backgrounds, its training images and its test images, whole."""
    (root,) = {path.parent for path in Path(data).glob("**/HRSID_JPG/annotations")}
    images = {path.name for path in (root / "JPEGImages").glob("*.jpg")}
    splits = {}
    for split in ("train", "test"):
        listed = json.loads((root / f"annotations/{split}2017.json").read_bytes())["images"]
        here = {image["file_name"] for image in listed} & images
        outlines = coco.read_outlines(root / f"annotations/{split}2017.json", {i["file_name"] for i in listed})
        splits[split] = {
            root / "JPEGImages" / name: [
                (int(x), int(y), int(x + w) + 1, int(y + h) + 1) for x, y, w, h in (o.box for o in outlines[name])
            ]
            for name in sorted(here)
        }
    return [root / "pure_background"], list(splits["train"]), splits["test"]


normals, anomalous, tested = hrsid() if data else simulated()
options = scene.Options(backbone=backbone)
models = {
    "Signature, Kelly's statistic": scene.fit(normals, folder / "signature.pt", anomalous, options=options),
    "PaDiM, shared background": scene.fit(normals, folder / "padim.pt", options=options),
}
start = time.perf_counter()
found = {
    title: {path: scene.detect(model, path, folder / f"{number}", pfa=pfa) for path in tested}
    for number, (title, model) in enumerate(models.items())
}
seconds = (time.perf_counter() - start) / len(models)


def read(path):
    """The first band of a raster."""
    with rasterio.open(path) as raster:
        return raster.read(1)


# %% [markdown]
# The first tested scene: its amplitudes, the score, and in both the boxes of what was found (red), with the ships' own
# (blue).

# %% tags=["hide-input"]
first = max(tested, key=lambda path: len(tested[path]))
title = next(iter(models))
score = read(folder / f"0/{first.stem}.score.tif")
grey = models[title].scaling(read(first).astype(np.float32))
figure, axes = plt.subplots(1, 2, figsize=(11, 5.6), layout="constrained")
axes[0].imshow(np.sqrt(grey), cmap="gray")
axes[1].imshow(score, cmap="inferno", vmin=0)
boxes = [(f["properties"]["box_px"], "tab:red") for f in found[title][first]["features"]]
for axis in axes:
    axis.set_axis_off()
    for (left, top, right, bottom), colour in [*((b, "tab:blue") for b in tested[first]), *boxes]:
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour))
figures.show(figure, f"{first.name}: the scene and its score, with {len(boxes)} boxes")

# %% [markdown]
# ## Found against false
#
# The part of the ships that is found, against the false alarms on each megapixel that it costs (FROC), over all tested
# scenes. RX and two-parameter CFAR see grey levels alone and have the scene itself for a background.

# %% tags=["hide-input"]
scores = {
    title: [read(folder / f"{number}/{path.stem}.score.tif") for path in tested] for number, title in enumerate(models)
}
grey = [torch.from_numpy(next(iter(models.values())).scaling(read(path).astype(np.float32)))[None] for path in tested]
invalid = [np.isnan(score) for score in scores[title]]
for other, statistic in {"RX, local": local_rx, "CA-CFAR": cfar}.items():
    scores[other] = [np.where(nan, np.nan, statistic(g)[0]) for g, nan in zip(grey, invalid, strict=True)]
curves = {name: froc(zip(maps, tested.values(), strict=True)) for name, maps in scores.items()}
figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for name, (rate, part) in curves.items():
    axis.step(np.maximum(rate, 0.05), part, where="post", label=name)
axis.set(xscale="log", xlim=(0.05, 50), ylim=(0, 1.02), xlabel="False alarms per megapixel", ylabel="Ships found")
axis.legend()
figures.show(figure, "Ships found against false alarms on each megapixel, for four detectors")

# %% tags=["hide-input"]
rates = [0.5, 1, 2, 5, 10]
part = {name: [float(np.interp(rate, *curve)) for rate in rates] for name, curve in curves.items()}
table = pd.DataFrame(part, index=[f"{rate:g} / Mpx" for rate in rates]).T.rename_axis("Ships found at").reset_index()
html_tables.table(table, "The part of the ships found at so many false alarms.", "froc_scenes", ".2f")

# %% [markdown]
# ## False alarms, asked and observed
#
# The threshold of a rate comes from normal squares that the fit held out. Here it meets clutter that the model has never
# seen: simulated seas of the fitted kind (shape 4 of the K-distribution) and of other sea states, by PaDiM's score. The lower the
# shape, the spikier the sea: a threshold holds for the sea state that it was found on, and `--fit-on-scene` or a fit to the
# day's sea are the remedies.

# %% tags=["hide-input"]
asked, seas = [1e-2, 1e-3, 1e-4, 1e-5], {}
write_scene(folder / "calm.tif", (size, size), 0, land=0, border=0, seed=10)
fitted = scene.fit([folder / "calm.tif"], folder / "calm.pt", options=options)
for shape in (4.0, 10.0, 2.0):
    path = folder / f"shape{shape:g}.tif"
    write_scene(path, (size, size), 0, land=0, border=0, shape=shape, seed=11)
    scene.detect(fitted, path, folder / "seas", pfa=1e-2)
    seas[f"shape {shape:g}"] = read(folder / f"seas/{path.stem}.score.tif")[:: fitted.patch, :: fitted.patch]
figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
for name, score in seas.items():
    observed = [np.nanmean(score > fitted.tail.threshold(rate)) for rate in asked]
    axis.plot(asked, observed, marker="o", label=name)
axis.plot(asked, asked, color="black", linewidth=0.8)
axis.fill_between(asked, np.array(asked) / 2, np.array(asked) * 2, color="black", alpha=0.1, label="a factor of 2")
axis.set(xscale="log", yscale="log", xlabel="Asked, per patch", ylabel="Observed")
axis.legend()
figures.show(figure, "False alarms observed against those asked for, on seas of three shapes")

# %% [markdown]
# ## Time and memory

# %% tags=["hide-input"]
pixels = sum(s.size for s in scores[title]) / 1e6
info = scene.info(folder / "padim.pt")
rows = {"Pixels scored and written, Mpx/s": f"{pixels / seconds:.2f}", "Network sees, beyond a patch": f"{fitted.reach} px"}
rows |= {name: value for name, value in info.items() if name.startswith("pfa")}
html_tables.table(pd.DataFrame(rows.items(), columns=["", "Here"]), "Speed and thresholds of PaDiM's score.", "scene_facts")

# %% [markdown]
# Memory is that of one window, whatever the scene's size: `make bench` measures a scene of 16,384 × 16,384 pixels against
# one of 4,096 × 4,096.
