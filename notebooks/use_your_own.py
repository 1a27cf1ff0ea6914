# %% [markdown]
# # Use it on your own images
#
# **What does it take to find something of your own?** Two folders: **normal** images, and **anomalous** images that show what is
# sought. Masks help to measure, and are not needed. `PadimAce` is the detector of this book as a model of
# [anomalib](https://anomalib.readthedocs.io), used as its `Padim` is.
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads a folder with `normal/` and `anomalous/` images, perhaps with `masks/`; writes a trained model, its exports and
# heat maps to the folder `out`. Needs the backbone's weights (those of the default come with a package), no GPU; takes
# one to two minutes on two cores. The book runs it on the 120 images of its simulated sea (`demo` profile) or, to stay
# that short, on every fourth of the 2320 images of SSDD with a ResNet-18 (`paper` profile).
# :::

# %% tags=["parameters"]
images = "build/demo/prepared/demo_sea"  # your folder
out = "build/demo/use_your_own"
backbone = "tf_efficientnet_lite0"  # any timm model that gives feature maps
preset = "recommended"  # paper: the detector as the paper describes it
background = "shared"  # patch: each place has its own
image_size = [256, 256]  # rows and columns
batch_size = 16
every = 1  # 4 takes every fourth image only
seed = 0

# %% [markdown]
# ## Your images
#
# 8-bit PNG or JPEG files can be used as they are. anomalib reads any other file as 8-bit colour, which spoils
# 16-bit images; bring these, TIFF files and complex SAR data, into shape first. The
# [preparation](prepared_format.md) finds one grey scale for all images, pairs images with masks and checks both:
#
# ```bash
# python -m data_prep folder --raw my_images --out prepared/my_images
# ```
#
# Then train. anomalib's `Folder` splits the images: four fifths of the normals train; the rest, and the anomalous
# images, are halved into validation and test. Of the anomalous images of validation every second one makes the
# **target signature**, since the training set of `Folder` has none; the others set the threshold. The test half
# only tests. With anomalous images to spare, give a folder of them as `signature_images`.

# %%
import logging
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import pandas as pd
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning.pytorch.trainer.states import TrainerFn

from padim_ace import PadimAce

for name in ("anomalib", "lightning.pytorch", "lightning_fabric", "torch.onnx"):
    logging.getLogger(name).setLevel(logging.ERROR)

root, results = Path(images), Path(out).resolve()
data = Folder(
    "mine",
    root=root,
    normal_dir="normal",
    abnormal_dir="anomalous",
    mask_dir="masks" if any(root.glob("masks/*")) else None,
    train_batch_size=batch_size,
    eval_batch_size=batch_size,
    num_workers=0,
    seed=seed,
)
data.setup(TrainerFn.FITTING)  # as the Engine would, which now does not
for part in (data.train_data, data.val_data, data.test_data):
    part.subsample(range(0, len(part), every), inplace=True)
model = PadimAce(
    backbone,
    pre_processor=PadimAce.configure_pre_processor(image_size),
    preset=preset,
    background=background,
    seed=seed,
)
engine = Engine(default_root_dir=results, enable_progress_bar=False, enable_model_summary=False)
engine.fit(model, datamodule=data)
{
    "images": images,
    "normal images to train": len(data.train_data),
    "to validate": len(data.val_data),
    "to test": len(data.test_data),
}

# %% [markdown]
# One pass over the normal images streams the background's mean and covariance, in memory that does not grow with
# their number. Then each image for the signature contributes the 16 patches that are farthest from that background.
# The direction by which the best patch of each image tells anomalous images from normal ones is the
# signature. Nothing else is learnt. (`PadimAce()` alone is the paper's detector: the mean embedding of whole images.)
#
# ## How well does it do?
#
# The book's own folders are easier than yours: their normal images are copies of the anomalous ones with the targets
# erased, so that the background of a test image may have been in training.

# %%
(metrics,) = engine.test(model, datamodule=data, verbose=False)
percent = {name: f"{100 * value:.1f} %" for name, value in metrics.items()}
pd.Series(percent, name="on the test half").to_frame().style

# %% [markdown]
# ## Heat maps
#
# `model.model` gives the **statistic itself**, in [-1, 1]: near 0 for a patch that is background or deviates from it
# in a direction of its own, larger for one that deviates as targets do. One scale serves all images of a model. That of
# `glrt` shrinks as the background is made of more patches; `ace`, a cosine, has the same scale in every model.

# %% tags=["hide-input"]
import numpy as np

from padim_ace.report import figures

anomalous = [i for i, label in enumerate(data.test_data.samples["label_index"]) if label == 1]
shown = [data.test_data[i] for i in anomalous[:: max(1, len(anomalous) // 3)][:3]]
with torch.inference_mode():
    maps = model.eval().model(torch.stack([item.image for item in shown])).anomaly_map[:, 0].numpy()
threshold = float(model.post_processor.pixel_threshold)
masks = [item.gt_mask if item.gt_mask is not None else torch.zeros(image_size) for item in shown]
figures.show(
    figures.localisation(
        np.stack([(255 * item.image[0]).byte().numpy() for item in shown]),
        np.stack([mask.bool().numpy() for mask in masks]),
        {"score": maps},
        [item.image_path.rpartition("/")[2] for item in shown],
        {"score": threshold},
    ),
    f"Three test images with the outline of their targets, if they have masks, the map of scores, from {maps.min():.2f} "
    f"to {maps.max():.2f}, and the pixels above the threshold, {threshold:.2f}.",
)

# %% [markdown]
# The Engine and exported models report scores in anomalib's manner, in [0, 1] with the threshold at 0.5. The scores of
# validation fill it from 0.05 to 0.95, and what lies beyond has the rest. anomalib's own post-processor clamps what
# lies beyond; scores tie, and metrics computed afterwards change (deviation D10 of the
# [published code](deviations.ipynb)). Here no score is clamped, and the metrics above are those of the scores.
#
# ## Export, and predict on a new file
#
# The checkpoint holds all that decides the scores, and loads without the backbone's own weights at hand, into a
# `PadimAce` of whatever arguments. `export` writes TORCH, ONNX or OPENVINO. An exported model takes images in [0, 1] of
# any size and resizes them as the Engine does (an exported `Padim` does not: anomalib leaves out the antialiasing), so
# that it predicts the same. One thing must be asked for: on processors that have bfloat16, OpenVINO computes in it by
# itself, and scores then differ in the second or third decimal. `INFERENCE_PRECISION_HINT` keeps it to float32.
# `INT8_PTQ` quantises the backbone's convolutions; maps then move by less than 0.05.

# %%
from contextlib import chdir

from anomalib.deploy import OpenVINOInferencer

checkpoint = engine.trainer.checkpoint_callback.best_model_path
loaded = PadimAce.load_from_checkpoint(checkpoint)
new_file = shown[0].image_path
(expected,) = engine.predict(loaded, data_path=new_file)

# %% tags=["hide-output"]
onnx = engine.export(loaded, "onnx", export_root=results)

# %%
with chdir(results):  # where anomalib puts OpenVINO's cache
    float32 = {"INFERENCE_PRECISION_HINT": "f32"}
    exported = OpenVINOInferencer(onnx, "CPU", float32).predict(new_file)  # it reads ONNX as well as OPENVINO
apart = abs(np.squeeze(exported.anomaly_map) - expected.anomaly_map[0].numpy()).max()
pd.DataFrame(
    {
        "score": [float(expected.pred_score), float(np.squeeze(exported.pred_score))],
        "anomalous": [bool(expected.pred_label), bool(np.squeeze(exported.pred_label))],
        "largest difference of the maps": ["–", f"{apart:.6f}"],
    },
    index=["Engine", "exported"],
).style.format({"score": "{:.6f}"})

# %% [markdown]
# ## On the command line
#
# The same without Python, on your folder. `predict` writes heat maps to `results/PadimAce/latest/images`, `export` a
# model of two files, which belong together, to `results/weights/onnx`:
#
# ```bash
# MODEL="--model padim_ace.PadimAce --model.backbone tf_efficientnet_lite0
#     --model.preset recommended --model.background shared"
# DATA="--data Folder --data.name mine --data.root prepared/my_images --data.seed 0
#     --data.normal_dir normal --data.abnormal_dir anomalous --data.mask_dir masks"
# CHECKPOINT=results/PadimAce/mine/latest/weights/lightning/model.ckpt
# anomalib train $MODEL $DATA
# anomalib test $MODEL $DATA --ckpt_path $CHECKPOINT
# anomalib predict $MODEL --data new_image.png --ckpt_path $CHECKPOINT
# anomalib export $MODEL --export_type onnx --ckpt_path $CHECKPOINT
# ```
#
# anomalib's scripts and pipelines know it once `from padim_ace import PadimAce` has run: by `get_model("PadimAce")`, and
# in their files by the class path `padim_ace.PadimAce`.
#
# ## What to choose
#
# | argument | choose | when |
# |---|---|---|
# | `background` | `shared` | targets and clutter can be anywhere; few normal images will do, for all places add to one covariance |
# | | `patch` | images are aligned, and what is normal depends on the place (PaDiM's own assumption) |
# | `preset` | `recommended` | you know which images are anomalous, and no more: one of them is better than none |
# | | `unsupervised` | you have no anomalous image |
# | `signature` | `masked` | you have masks of the signature images |
# | | `mean` | the paper's; works where targets are large or always in the same place |
# | `statistic` | `tolerant` | targets differ from each other ([](beyond.ipynb) says why) |
# | | `ace` | you want the cosine itself |
# | `signature_images` | a folder | you want all validation images for the threshold, or your anomalies there are synthetic |
# | `precision` | `bfloat16` | a faster backbone on processors and GPUs that have it; exports compute in float32 |
#
# Without a network, put the backbone's weights in a folder and set `PADIM_ACE_WEIGHTS` to it. Several GPUs add their
# moments up: `Engine(devices=2)` fits the model of one, to rounding. Only the threshold may differ, where the
# validation images don't divide evenly, as a distributed validation counts some of them twice.
