# %% [markdown]
# # Try it in the page
#
# Pick a simulated image, or drop one of your own: the detector runs in this page, in your browser. **Your image stays on
# your machine**; nothing is sent. With the first image the page loads the detector from the book itself, 18 MB.
#
# <div id="try-it" class="try-it">
# <noscript>The detector needs JavaScript; the figure below shows what it does.</noscript>
# <div class="samples" role="group" aria-label="Simulated images"></div>
# <label class="drop">Drop an image here, or choose one: <input type="file" accept="image/*"></label>
# <label class="rate">False-alarm rate <input type="range" disabled> <output></output></label>
# <p class="said" role="status">No image yet.</p>
# <div class="seen" hidden>
# <figure><canvas role="img" width="512" height="512"></canvas><figcaption>The image and the boxes. Dashed, in
# simulated images: the ships.</figcaption></figure>
# <figure><canvas role="img" width="512" height="512"></canvas><figcaption>Its scores, on one scale for all images.</figcaption></figure>
# </div>
# </div>
#
# A **box** surrounds neighbouring pixels whose scores are above a threshold. The slider sets it by the **false-alarm
# rate**: the share of pixels above it in normal images that the detector was not fitted on.
#
# It was fitted on **simulated images only**: an open sea and a harbour, with ships of 7 to 30 pixels in 256 × 256. An image
# of another size is resized to that, so crop yours until its ships are as large. It answers on any image, a photograph
# too, but the false-alarm rate is that of images like those it knows. An image takes 0.1 to 0.2 s in Chromium on one
# core of a server, the first one 1.5 s with what is loaded.
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads nothing: it draws its images. It writes the exported model, its thresholds and the samples to the folder `out`,
# from which the book takes them, with ONNX Runtime for the browser, which npm fetches. Needs the backbone's weights (a
# package brings them), no GPU; takes one to two minutes on two cores.
# :::

# %% tags=["parameters"]
out = "build/demo/try_it"
backbone = "tf_efficientnet_lite0"
scenes = 40  # images of each kind to fit on, and as many normal ones held out
seed = 0

# %% [markdown]
# ## What it was fitted on
#
# This is the recommended detector with one background for all places. The background is that of normal images of both
# kinds; the signature is learnt from other images that show ships, told no more than that they do. Thresholds are quantiles
# of the scores of all pixels of the images that were held out.

# %% tags=["hide-input"]
import json
import logging
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from scipy import ndimage

from data_prep.files import write_atomic
from data_prep.prepared import encode_png
from data_prep.simulation.scenes import SCENES
from data_prep.target_removal import image_rng
from padim_ace import PadimAce
from padim_ace.report import figures

logging.getLogger("torch.onnx").setLevel(logging.ERROR)
KINDS = {"open sea": SCENES["demo_sea"], "harbour": SCENES["demo_harbour"]}
folder = Path(out)


def draw(role, count, ships):
    """Simulated scenes of both kinds, which no other role has."""
    return [
        simulated.scene(256, simulated.looks, "train", ships, image_rng(seed, f"{kind}/{role}/{number}"))
        for kind, simulated in KINDS.items()
        for number in range(count)
    ]


def batches(drawn):
    images = torch.stack([torch.from_numpy(scene.image) / 255 for scene in drawn])
    return images.unsqueeze(1).expand(-1, 3, -1, -1).split(8)


normal, held_out = draw("normal", scenes, False), draw("held out", scenes, False)
anomalous, samples = draw("anomalous", scenes // 2, True), draw("sample", 3, True)
# without a post-processor its map is the statistic itself
model = PadimAce(backbone, post_processor=False, preset="recommended", background="shared", seed=seed).eval()
for batch in batches(normal):
    model.model.update(batch)
model.model.fit((batch, None, []) for batch in batches(anomalous))


def scores(drawn):
    with torch.inference_mode():
        return np.concatenate([model.model(batch).anomaly_map[:, 0].numpy() for batch in batches(drawn)])


background, maps = scores(held_out), scores(samples)
rates = np.logspace(-1, -5, 41)
thresholds = np.quantile(background, 1 - rates)

onnx = model.to_onnx(folder, external_data=False, verbose=False)  # resizes images as the Engine does
torch.save(model.model.state_dict(), folder / "model.pt")
told = {
    "rates": rates.tolist(),
    "thresholds": thresholds.tolist(),
    "scale": [float(np.median(background)), float(np.median(maps.max((1, 2))))],
    "colours": (255 * mpl.colormaps[figures.HEAT](np.arange(256))[:, :3]).round().astype(int).tolist(),
    "samples": [],
}
for number, (kind, scene) in enumerate(zip(np.repeat(list(KINDS), 3), samples, strict=True)):
    places = ndimage.find_objects(ndimage.label(scene.mask)[0])
    ships = [[x.start, y.start, x.stop, y.stop] for y, x in places]
    title = f"{kind}, {len(ships)} ship" + "s" * (len(ships) != 1)
    told["samples"].append({"file": f"sample{number}.png", "title": title, "ships": ships})
    write_atomic(folder / f"sample{number}.png", encode_png(scene.image))
write_atomic(folder / "try_it.json", json.dumps(told).encode())
print(
    f"{len(normal)} normal images, {len(anomalous)} with ships for the signature, {len(held_out)} held out; the exported "
    f"model has {onnx.stat().st_size / 1e6:.1f} MB"
)

# %% [markdown]
# ## What to expect
#
# How many of the ships in the six images above are in a box, and how many boxes hold none. Below, three of the images with
# the outline of their ships, their scores, and the pixels above the threshold of a false-alarm rate of 10⁻⁴.

# %% tags=["hide-input"]
rows, total = [], sum(len(sample["ships"]) for sample in told["samples"])
for rate in (0.01, 0.001, 0.0001, 0.00001):
    found, wrong = 0, 0
    for scene, above in zip(samples, maps > np.quantile(background, 1 - rate), strict=True):
        ships, boxes = (ndimage.label(pixels) for pixels in (scene.mask, above))
        found += len(np.unique(ships[0][above & scene.mask]))
        wrong += boxes[1] - len(np.unique(boxes[0][above & scene.mask]))
    rows.append([f"{rate:.5f}".rstrip("0"), f"{found} of {total}", wrong])
display(pd.DataFrame(rows, columns=["rate", "ships in a box", "boxes without a ship"]).style.hide())
shown = [0, 2, 4]
figures.show(
    figures.localisation(
        np.stack([samples[i].image for i in shown]),
        np.stack([samples[i].mask for i in shown]),
        {"score": maps[shown]},
        [told["samples"][i]["title"].partition(",")[0] for i in shown],
        {"score": float(np.quantile(background, 1 - 1e-4))},
    ),
    "Three simulated images with the outline of their ships, their score maps, and the pixels above the threshold.",
)
