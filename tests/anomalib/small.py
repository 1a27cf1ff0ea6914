"""Small models, images and data modules, which the tests of this folder share."""

import cv2
import numpy as np
import torch
from anomalib.data import Folder
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from anomalib.models import Padim
from torchvision.transforms.v2 import Resize

from padim_ace import PadimAce

SIZE = (64, 96)
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
"""OpenVINO computes in bfloat16 by itself on processors that have it, and scores then move by 0.004."""


def write_images(root):
    """Grey images of 80 x 120 pixels: smoothed speckle, and the same with a bright ellipse."""
    generator = np.random.default_rng(0)
    for name in ("normal", "anomalous", "masks", "others", "other_masks"):
        (root / name).mkdir()

    def clutter():
        return cv2.GaussianBlur(generator.exponential(60, (80, 120)).astype(np.float32), (0, 0), 1)

    for i in range(15):
        cv2.imwrite(str(root / "normal" / f"n{i:02}.png"), clutter().clip(0, 255).astype(np.uint8))
    for i in range(14):
        mask = np.zeros((80, 120), np.uint8)
        centre = generator.integers((20, 20), (100, 60)).tolist()
        cv2.ellipse(mask, centre, (12, 5), float(generator.integers(180)), 0, 360, 255, -1)
        image = (clutter() + 150 * (mask > 0)).clip(0, 255).astype(np.uint8)
        images, masks = ("anomalous", "masks") if i < 10 else ("others", "other_masks")
        cv2.imwrite(str(root / images / f"a{i:02}.png"), image)
        cv2.imwrite(str(root / masks / f"a{i:02}.png"), mask)


def data(folder, kind=Folder, **arguments):
    defaults = {"abnormal_dir": "anomalous", "mask_dir": "masks", "seed": 0, "num_workers": 0}
    sizes = {"train_batch_size": 4, "eval_batch_size": 4}
    return kind("fake", "normal", root=folder, **defaults | sizes | arguments)


def model(kind=PadimAce, **arguments):
    """A small one: two stages of a ResNet-18 with random weights, always the same."""
    torch.manual_seed(0)
    defaults = {"layers": ["layer1", "layer2"], "pre_trained": False, "n_features": 30, "visualizer": False}
    sizes = {"pre_processor": kind.configure_pre_processor(SIZE)}
    return kind(**defaults | sizes | arguments)


def padim(**arguments):
    return model(Padim, **arguments)


def engine(root, **arguments):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Engine(default_root_dir=root, **quiet | {"devices": 1} | arguments)


def images_of(paths):
    """Preprocessed images."""
    resize = Resize(SIZE, antialias=True)
    return torch.stack([resize(read_image(path, as_tensor=True)) for path in paths])


def held_out(module):
    return images_of(module.test_data.samples.image_path)


def cosines(fitted, images):
    """Maps and scores before any post-processing."""
    predicted = fitted.model(images)
    return predicted.anomaly_map, predicted.pred_score
