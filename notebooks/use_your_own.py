# %% [markdown]
# # Use it on your own images
#
# `PadimAce` is the detector of this book as a model of [anomalib](https://anomalib.readthedocs.io): a drop-in
# neighbour of its `Padim`, for those who want the detector and not the experiments. Needed are two folders:
# **normal** images, and **anomalous** images that show what is sought. Masks help to measure, and are not needed.
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
backbone = "tf_efficientnet_lite0"  # resnet18, or any other of the book; any timm model, with its layers
background = "shared"  # patch, pooled, shared
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
# images, are halved into validation and test. The validation half of the anomalous images does two things: it sets
# the threshold, and it makes the **target signature**, for a training set of `Folder` has none. The test half does
# nothing but test. With anomalous images to spare, give a folder of them as `signature_images`.

# %%
import logging
import warnings

import pandas as pd
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning.pytorch.trainer.states import TrainerFn

from padim_ace import PadimAce

warnings.filterwarnings("ignore")
for name in ("anomalib", "lightning.pytorch", "torch.onnx"):
    logging.getLogger(name).setLevel(logging.ERROR)

root, results = Path(images), Path(out)
data = Folder(
    "mine",
    root=root,
    normal_dir="normal",
    abnormal_dir="anomalous",
    mask_dir="masks" if (root / "masks").is_dir() else None,
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
    background=background,
    pre_processor=PadimAce.configure_pre_processor(tuple(image_size)),
    seed=seed,
)
engine = Engine(
    default_root_dir=results,
    enable_progress_bar=False,
    enable_model_summary=False,
)
engine.fit(model, datamodule=data)
{
    "images": images,
    "normal images to train": len(data.train_data),
    "to validate": len(data.val_data),
    "to test": len(data.test_data),
}

# %% [markdown]
# One pass over the normal images streams the background's mean and covariance, in memory that does not grow with
# their number. Then each anomalous image of the validation half contributes the 16 patches that are farthest from that
# background: the mean of these, whitened, is the signature. Nothing else is learned.
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
# `model.model` gives the **score itself**: the cosine between a patch and the signature, both whitened, in [-1, 1].
# It is 0 for a patch that deviates from the background in a direction of its own, 1 for one that deviates as targets
# do. Being bounded, it needs no calibration to be drawn: one colour scale serves every image and every model.

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
        {"cosine": maps},
        [item.image_path.rpartition("/")[2] for item in shown],
        {"cosine": threshold},
    ),
    f"Three test images with the outline of their targets, the map of cosines, from {maps.min():.2f} to {maps.max():.2f}, "
    f"and the pixels above the threshold, {threshold:.2f}.",
)

# %% [markdown]
# The Engine and exported models report scores in anomalib's manner, in [0, 1] with the threshold at 0.5:
# -1 becomes 0, the threshold 0.5, and 1 stays 1, by two straight lines. anomalib's own post-processor takes its bounds
# from the validation scores and clamps what lies beyond; scores tie, and metrics computed afterwards change
# (deviation D10 of the [published code](deviations.ipynb)). A bounded score needs no bounds from data: no score is
# clamped, and the metrics above are those of the cosines.
#
# ## Export, and predict on a new file
#
# The fitted state is in the checkpoint, and loads again without the backbone's own weights at hand. `export` writes
# TORCH, ONNX or OPENVINO. An exported model takes images in [0, 1] of any size and resizes them as the Engine does
# (an exported `Padim` does not: anomalib leaves out the antialiasing), so that it predicts the same. One thing must be
# asked for: on processors that have bfloat16, OpenVINO computes in it by itself, and scores then differ in the second
# or third decimal. `INFERENCE_PRECISION_HINT` keeps it to float32.

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
#     --model.background shared"
# DATA="--data Folder --data.name mine --data.root prepared/my_images --data.seed 0
#     --data.normal_dir normal --data.abnormal_dir anomalous --data.mask_dir masks"
# CHECKPOINT=results/PadimAce/mine/latest/weights/lightning/model.ckpt
# anomalib train $MODEL $DATA
# anomalib test $MODEL $DATA --ckpt_path $CHECKPOINT
# anomalib predict $MODEL --data new_image.png --ckpt_path $CHECKPOINT
# anomalib export $MODEL --export_type onnx --ckpt_path $CHECKPOINT
# ```
#
# ## What to choose
#
# | argument | choose | when |
# |---|---|---|
# | `background` | `shared` | targets and clutter can be anywhere; few normal images will do, for all places add to one covariance |
# | | `patch` | images are aligned, and what is normal depends on the place (PaDiM's own assumption) |
# | | `pooled` | between: a mean for each place, one covariance |
# | `signature` | `mined` | you know which images are anomalous, and no more |
# | | `subspace` | the same, and targets differ among themselves or clutter is far from the background too; `contrast` keeps one direction |
# | | `masked` | you have masks of the signature images |
# | | `mean` | the paper's; works where targets are large or always in the same place |
# | `statistic` | `ace` | you want the cosine itself |
# | | `glrt` | you want heat maps that are quiet where nothing is (Kelly's statistic; [](beyond.ipynb) compares) |
# | `signature_images` | a folder | you want validation images for the threshold only, or your data module validates on its test set |
# | `covariance` | `full` | always; `diagonal` and `isotropic` are there for the comparison of Table 3 |
# | `weights` | `folder` | no network: put the file in a folder and set `PADIM_ACE_WEIGHTS` to it |
# | `precision` | `bfloat16` | a faster backbone on processors and GPUs that have it; exports compute in float32 |
#
# Several GPUs add their moments up: `Engine(devices=2)` fits the model of one, to rounding. Only the threshold may
# differ, where the validation images don't divide evenly, as a distributed validation counts some of them twice.
#
# What goes wrong says so in one line: no anomalous images for the signature, a single normal image, an image without
# content, more features than the backbone has, an unknown layer.
