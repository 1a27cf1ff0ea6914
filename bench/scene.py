"""Time and memory of whole scenes, for `make bench`: simulated scenes, EfficientNet-Lite0, one process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from data_prep.simulation.whole import write_scene
from padim_ace import scene
from padim_ace.scene.tiles import tiles

SIDE = 4096
"""Of a scene, in pixels."""


def prepare_scenes(folder: Path) -> Path:
    """A scene of 4096 px a side, the same laid side by side to 16384 px, and a model; written once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, repeat in (("small", 1), ("large", 4)):
        if not (folder / f"{name}.tif").exists():
            write_scene(folder / f"{name}.tif", (SIDE, SIDE), 100, repeat=repeat)
    if not (folder / "part.tif").exists():
        write_scene(folder / "part.tif", (1024, 1024), 0, seed=1)
    scene.fit([folder / "part.tif"], folder / "model.pt")
    return folder


def detect(folder: Path, name: str = "small") -> None:
    """Detect in a scene, all files written."""
    with tempfile.TemporaryDirectory() as out:
        scene.detect(folder / "model.pt", folder / f"{name}.tif", out)


def bare(folder: Path) -> None:
    """The backbone alone on the windows of the same scene without their margins."""
    model = scene.SceneModel.load(folder / "model.pt")
    with torch.inference_mode():
        for tile in tiles((SIDE, SIDE), model):
            shape = [part.stop - part.start for part in tile.inner]
            images = model.backbone.normalise(torch.full((1, 1, *shape), 0.2))
            model.backbone(images.contiguous(memory_format=torch.channels_last))


def peak_memory(folder: Path, name: str, threads: int) -> float:
    """Peak resident memory in MB of a process that detects in a scene."""
    torch.set_num_threads(threads)
    detect(folder, name)
    # getrusage would give the parent's peak where that was higher: a child starts with it
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def tiled_padim(folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """anomalib's PaDiM on 256 px tiles of a scene, and ours on the scene: each fits to it and scores it."""
    from anomalib.models.image.padim.torch_model import PadimModel

    model = scene.SceneModel.load(folder / "model.pt")
    path, backbone = folder / "part.tif", model.backbone
    with scene.Scene(path) as opened:
        grey = opened.window(range(1024), range(1024), model.scaling).grey
    parts = grey.reshape(4, 256, 4, 256).swapaxes(1, 2).reshape(-1, 1, 256, 256)
    images = backbone.normalise(torch.from_numpy(np.ascontiguousarray(parts)))

    def theirs() -> None:
        padim = PadimModel(backbone.name, layers=backbone.layers, pre_trained=False, n_features=100)
        padim.feature_extractor.feature_extractor.load_state_dict(backbone.model.state_dict())
        with torch.no_grad():
            for part in images.split(16):
                padim(part)
            padim.fit()
            padim.eval()
            for part in images.split(16):
                padim(part)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as out:
            scene.detect(model, path, out, threshold=25.0, fit_on_scene=True)

    return theirs, ours
