# %% [markdown]
# # A whole scene
#
# A scene goes in, of any size; boxes on a map come out. Nothing is cut into chips by hand, and the threshold is a
# false-alarm rate.
#
# ```bash
# python -m data_prep.simulation.whole .                    # or scenes of your own
# padim-ace fit sea.tif -o sea.pt
# padim-ace detect sea.pt ships.tif --pfa 1e-6 -o found     # found/ships.{score.tif,geojson,png}
# ```
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads whole scenes: simulated ones, or the images of HRSID in the folder `data`; writes models and what they find to
# the folder `out`. Needs the backbone's weights, no GPU; takes two minutes on two cores, of all of HRSID an hour.
# :::

# %% tags=["parameters"]
data = ""  # the folder that holds HRSID; simulated scenes without
out = "build/demo/whole_scene"
backbone = "tf_efficientnet_lite0"
pfa = 1e-6
size = 2048  # of a simulated scene
seas = 2  # of the fitted kind, on which false alarms are counted
threads = 2

# %% tags=["hide-input"]
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rasterio
import torch

from data_prep.datasets import hrsid
from data_prep.simulation.whole import write_scene
from padim_ace import scene
from padim_ace.experiment.froc import froc
from padim_ace.experiment.rx import cfar, local_rx
from padim_ace.report import figures, html_tables

torch.set_num_threads(threads)
folder = Path(out)
if data:  # the release's backgrounds, its training images, and its test images with the boxes of their ships
    items, _ = hrsid.items(Path(data) / "HRSID", hrsid.Parameters())
    normals = [item.files[0] for item in items if not item.extra]
    anomalous = [item.files[0] for item in items if item.extra and item.split == "train"]
    tested = {
        item.files[0]: [
            (int(x), int(y), int(x + w) + 1, int(y + h) + 1) for x, y, w, h in (o.box for o in item.extra)
        ]
        for item in items
        if item.extra and item.split == "test"
    }
else:
    normals, anomalous = [folder / "sea.tif"], [folder / "train.tif"]
    dim = {"shape": 2, "brightness": 0.25}  # a spiky sea, and ships that hardly stand out
    write_scene(normals[0], (size, size), 0, **dim, seed=1)
    write_scene(anomalous[0], (size, size), size // 64, **dim, seed=2)
    ships = write_scene(folder / "ships.tif", (size, size), size // 64, **dim, seed=3)
    tested = {folder / "ships.tif": ships}
options = scene.Options(backbone=backbone)
network = scene.Options(backbone=backbone, channels="network")
models = {
    "Learnt signature": scene.fit(normals, folder / "signature.pt", anomalous, options=options),
    "Without anomalous images": scene.fit(normals, folder / "without.pt", options=options),
    "PaDiM, shared background": scene.fit(normals, folder / "padim.pt", options=network),
}
start = time.perf_counter()
for title, model in models.items():
    for path in tested:
        scene.detect(model, path, folder / title, pfa=pfa)
seconds = (time.perf_counter() - start) / len(models)


def read(path):
    with rasterio.open(path) as raster:
        return raster.read(1).astype(np.float32)


# %% [markdown]
# The tested scene with the most ships: what was found, as `found/ships.png` shows it, and the score.

# %% tags=["hide-input"]
first, where = max(tested, key=lambda path: len(tested[path])).stem, folder / next(iter(models))
figure, axes = plt.subplots(1, 2, figsize=(11, 5.6), layout="constrained")
axes[0].imshow(plt.imread(where / f"{first}.png"))
axes[1].imshow(read(where / f"{first}.score.tif"), cmap="inferno", vmin=0)
for axis in axes:
    axis.set_axis_off()
figures.show(figure, f"The scene {first} with boxes around what was found, and its score")

# %% [markdown]
# `ships.score.tif` lies on the scene's own grid, with its CRS or ground control points, and opens over it in QGIS. A feature
# of `ships.geojson` has longitudes and latitudes, and `box_px`, `outline_px`, `area_px`, `area_m2` and `score`; of a scene
# without coordinates it has pixels alone. Targets are marked for a fit by the same kind of file, of polygons or boxes
# around them: `--anomalous sea.geojson`; images that show targets somewhere do as well.
#
# ## Found against false
#
# The part of the ships that is found, against the false alarms on each megapixel that it costs (FROC), over all tested
# scenes. RX and two-parameter CFAR see grey levels alone and have the scene itself for a background.

# %% tags=["hide-input"]
by_grey = {"RX, local": local_rx, "CA-CFAR": cfar}


def maps(title):
    for path in tested:
        score = read(folder / (title if title in models else next(iter(models))) / f"{path.stem}.score.tif")
        if title in by_grey:
            grey = torch.from_numpy(models["Learnt signature"].scaling(read(path)))
            score = np.where(np.isnan(score), np.nan, by_grey[title](grey[None])[0])
        yield score


curves = {title: froc(zip(maps(title), tested.values(), strict=True)) for title in [*models, *by_grey]}
figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for title, (rate, part) in curves.items():
    axis.step(np.maximum(rate, 0.05), part, where="post", label=title)
axis.set(
    xscale="log", xlim=(0.05, 50), ylim=(0, 1.02), xlabel="False alarms per megapixel", ylabel="Ships found"
)
axis.legend()
figures.show(figure, "Ships found against false alarms on each megapixel, for five detectors")

# %% tags=["hide-input"]
rates = [0.2, 0.5, 1, 2, 5, 10]
found = {title: part[np.searchsorted(rate, rates, "right") - 1] for title, (rate, part) in curves.items()}
table = pd.DataFrame(found)
table = table.set_axis([f"{rate:g} / Mpx" for rate in rates]).T.rename_axis("Ships found at").reset_index()
html_tables.table(table, "The part of the ships found at so many false alarms.", "froc_scenes")

# %% [markdown]
# ## False alarms, asked and observed
#
# The threshold of a rate comes from normal squares that the fit held out. Here it meets clutter that the model has never
# seen: simulated seas of the fitted kind (shape 4 of the K-distribution) and of other sea states, by the distance from
# the background; where HRSID is at hand, one of its backgrounds after a fit to the others. The lower the shape, the spikier
# the sea: a threshold holds for the sea state that it was found on, and a fit to the day's sea is the remedy. False alarms
# come in clusters, so that the lowest rates rest on few of them.

# %% tags=["hide-input"]
sea = {"size": (size, size), "ships": 0, "land": 0, "border": 0}
for number in range(seas):
    write_scene(folder / f"calm/{number}.tif", **sea, seed=10 + number)
fitted = scene.fit([folder / "calm"], folder / "calm.pt", options=options)
clutter = {}
for shape, count in ((4, seas), (10, 1), (2, 1)):
    clutter[f"shape {shape}"] = fitted, [folder / f"shape{shape}/{number}.tif" for number in range(count)]
    for number, path in enumerate(clutter[f"shape {shape}"][1]):
        write_scene(path, **sea, shape=shape, seed=100 + number)
if data:
    clutter["HRSID"] = scene.fit(normals[1:], folder / "others.pt", options=options), normals[:1]
figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
for name, (model, paths) in clutter.items():
    asked, above, count = np.array([1e-2, 1e-3, 1e-4, 1e-5]), 0, 0
    thresholds = np.array([model.tail.threshold(rate) for rate in asked])
    for path in paths:
        scene.detect(model, path, folder / f"clutter/{name}", threshold=thresholds[0])
        score = read(folder / f"clutter/{name}/{path.stem}.score.tif")[:: model.patch, :: model.patch]
        above, count = above + (score > thresholds[:, None, None]).sum((1, 2)), count + score.size
    shown = asked * count > 20  # false alarms that the rate comes to: fewer say little
    axis.plot(asked[shown], (above / count)[shown], marker="o", label=name)
axis.fill_between(asked, asked / 2, asked * 2, color="black", alpha=0.1, label="a factor of 2")
axis.set(xscale="log", yscale="log", xlabel="Asked, per patch", ylabel="Observed")
axis.legend()
figures.show(figure, "False alarms observed against those asked for, on seas of three shapes")

# %% [markdown]
# ## Time and memory
#
# Memory is that of one window, whatever the scene's size: `make bench` measures a scene of 16,384 × 16,384 pixels against
# one of 4,096 × 4,096, and the time against that of the bare backbone. The thresholds that false-alarm rates come to are
# those that `padim-ace info` tells, beside those of Gaussian features.

# %% tags=["hide-input"]
pixels = sum(score.size for score in maps("Learnt signature"))
facts = scene.info(folder / "without.pt")
rows = {"speed": f"{pixels / 1e6 / seconds:.2f} Mpx/s, all files written"}
rows |= {
    name: facts[name]
    for name in facts
    if name.startswith(("detector", "a score", "scale", "normal patches", "pfa"))
}
html_tables.table(
    pd.DataFrame(rows.items(), columns=["Without anomalous images", "here"]), "A model.", "scene_facts"
)
