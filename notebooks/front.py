# %% [markdown]
# # The front page's figures
#
# :::{admonition} This notebook
# :class: dropdown note
# Simulates images and fits the recommended detector to them. Reads `scores.csv` of a results folder; writes nothing.
# Needs no GPU; takes half a minute.
# :::

# %% tags=["parameters"]
results = "results/paper"  # a folder with scores.csv
backbone = "resnet18"
size = 320  # of a simulated image, px

# %% tags=["hide-input", "figure-scene"]
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import ndimage

from data_prep.simulation import scenes
from padim_ace.detect import RECOMMENDED, AceModel, load_backbone
from padim_ace.experiment.results import read_scores
from padim_ace.report import beyond, figures


def seas(count, ships, seed):
    rng = np.random.default_rng(seed)
    images = np.stack([scenes.sea(size, 1, "train", ships, rng).image for _ in range(count)])
    return torch.from_numpy(images).float()[:, None].expand(-1, 3, -1, -1) / 255


detector = replace(RECOMMENDED, background="shared")
model = AceModel(load_backbone("tf_efficientnet_lite0"), detector, image_size=(size, size))
for batch in seas(16, False, seed=1).split(8):
    model.update(batch)
model.fit([(seas(8, True, seed=2), None, [])])
threshold = float(model(seas(6, False, seed=3)).anomaly_map.max())
scene = seas(2, True, seed=4)[1:]
score = model(scene).anomaly_map[0, 0].numpy()
boxes = ndimage.find_objects(ndimage.label(score > threshold)[0])
with plt.rc_context(figures.STYLE):
    figure, axes = plt.subplots(1, 3, figsize=(8.6, 3.1), layout="constrained")
    for axis, title, image in zip(
        axes, ("scene", "score", "found"), (scene[0, 0], score, scene[0, 0]), strict=True
    ):
        axis.imshow(image, cmap=figures.HEAT if title == "score" else "gray")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    for rows, columns in boxes:
        corner = columns.start - 4, rows.start - 4
        sides = columns.stop - columns.start + 8, rows.stop - rows.start + 8
        axes[2].add_patch(plt.Rectangle(corner, *sides, fill=False, ec=figures.COLOURS[1], lw=1.5))
figures.show(
    figure,
    f"A simulated sea with two ships, the map of scores, and boxes around the {len(boxes)} places above the threshold.",
    "A simulated sea, what the recommended detector makes of it, and what lies above the highest score of six seas without "
    "ships. It has learnt from 16 seas without ships and 8 with some, and was not told where in these they are.",
)

# %% tags=["hide-input", "figure-result"]
every = read_scores(results)
scores = every[every["backbone"].eq(backbone) | ~every["background"].astype(bool)]
frame = beyond.comparison(scores, beyond.FRONT, ["ssdd", "hrsid"], [("image", "auroc"), ("pixel", "ap")])
figure, alt = beyond.front_figure(frame)
figures.show(
    figure,
    alt,
    "Ships in SSDD (dots) and in a subset of HRSID (squares): means over ten seeds with their 95 % intervals. No scene that is "
    f"tested has a part in training. The recommended detector is {beyond.decided(frame)}.",
    data=frame,
)
