"""Time and memory of the one pass, as ratios within one run. `make bench` runs this; it reports and asserts
nothing.

Real MSTAR images from PADIM_ACE_DATA with ResNet-18 from PADIM_ACE_WEIGHTS, else simulated images and
EfficientNet-Lite0. Each ratio is the median of pairs timed in turn, with the same number of threads on both
sides.
"""

from __future__ import annotations

import argparse
import json
import logging
import os

os.environ.setdefault("TQDM_DISABLE", "1")

import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import scene
import torch

from data_prep import prepare
from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.background import Moments, fit_background
from padim_ace.detect.detector import PADIM, Detector
from padim_ace.detect.embedding import CPU_IMAGES
from padim_ace.detect.inner_products import Full, Shape
from padim_ace.detect.pyramid import flatten
from padim_ace.detect.statistics import ace
from padim_ace.experiment import anomalib_baselines, results
from padim_ace.experiment.dataset import PreparedDataset, batches
from padim_ace.experiment.experiment import Experiment, Settings
from padim_ace.experiment.protocols import PROTOCOLS
from padim_ace.paper.detectors import DETECTORS
from padim_ace.paper.published_code import CONVENTIONS

ROOT = Path(__file__).resolve().parents[1]
THREADS = min(2, os.cpu_count() or 1)
GRID = {protocol: DETECTORS[protocol] for protocol in PROTOCOLS}
"""The detectors of both protocols, as the book runs them: each judged under its protocol, in one pass."""


def prepared_images() -> tuple[PreparedDataset, str]:
    """The images, prepared once, and the backbone to use on them."""
    data = os.environ.get("PADIM_ACE_DATA")
    if data:
        root = prepare("mstar", Path(data) / "MSTAR", ROOT / "build/bench/mstar", processes=2)
    else:
        root = prepare("demo_vehicle", None, ROOT / "build/bench/demo_vehicle", processes=2)
    weights = os.environ.get("PADIM_ACE_WEIGHTS")
    return PreparedDataset.open(root), "resnet18" if weights else "tf_efficientnet_lite0"


def subset(dataset: PreparedDataset, scenes: int) -> PreparedDataset:
    """Scenes at equal steps through the dataset: each as a normal and an anomalous image."""
    kept = []
    for label in ("normal", "anomalous"):
        rows = np.flatnonzero(dataset.manifest["label"] == label)
        kept.append(rows[np.linspace(0, len(rows) - 1, min(scenes, len(rows))).round().astype(int)])
    return PreparedDataset(dataset.root, dataset.manifest.iloc[np.concatenate(kept)].reset_index(drop=True))


def seconds(run: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def paired(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[float, float, float]:
    """Median seconds of both, and the median of the ratios of pairs timed in turn, after a pair that is not
    counted."""
    first()
    second()
    pairs = [(seconds(first), seconds(second)) for _ in range(repeats)]
    first_median, second_median, ratio = np.median([(a, b, a / b) for a, b in pairs], axis=0).tolist()
    return first_median, second_median, ratio


def experiment(
    dataset: PreparedDataset,
    backbone: str,
    detectors: Mapping[str, Sequence[Detector]],
    seeds: int,
    **settings: object,
) -> Experiment:
    """A fresh experiment with so many seeds, of detectors by protocol."""
    chosen = Settings(seeds=tuple(range(seeds)), **settings)
    return Experiment(dataset, load_backbone(backbone), detectors, chosen, conventions=CONVENTIONS)


def grid_over_backbone(dataset: PreparedDataset, backbone: str, repeats: int) -> tuple[float, float, float]:
    """All detectors under both protocols over a bare pass of the same images, decoded in the same way.

    The published convention embeds its signature images without normalisation: another input, so another
    image of the bare pass.
    """
    probe = experiment(dataset, backbone, GRID, 3)
    roles = np.stack([run.roles for run in probe.runs])
    passes = [np.flatnonzero((roles == role).any(0)) for role in ("train", "signature", "signature", "test")]
    model = probe.embedder.backbone

    def bare() -> None:
        with torch.inference_mode():
            for index in passes:
                for batch in batches(dataset, index, (256, 256), probe.settings.batch_size):
                    for images in batch.images.split(CPU_IMAGES):
                        model(model.normalise(images).contiguous(memory_format=torch.channels_last))

    return paired(lambda: experiment(dataset, backbone, GRID, 3).run(), bare, repeats)


def anomalib_over_ours(dataset: PreparedDataset, backbone: str, repeats: int) -> tuple[float, float, float]:
    """anomalib's PaDiM through its Engine, fit and test, over ours on images of the same number, size and
    layout."""
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import Padim

    logging.getLogger("anomalib").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    layers = load_backbone(backbone).layers
    with tempfile.TemporaryDirectory() as folder:
        for label in ("normal", "anomalous", "masks"):
            (Path(folder) / label).mkdir()
        table = dataset.manifest
        ours = table[(table["label"] == "normal") | (table["split"] == "test")]
        for path in [*ours["path"], *(mask for mask in ours["mask"] if mask)]:
            os.link(dataset.root / path, Path(folder) / path)

        def theirs() -> None:
            model = Padim(backbone, layers=layers, pre_trained=False, n_features=100, visualizer=False)
            weights = load_backbone(backbone).model.state_dict()
            model.model.feature_extractor.feature_extractor.load_state_dict(weights)
            folders = {"normal_dir": "normal", "abnormal_dir": "anomalous", "mask_dir": "masks"}
            loaders = {"train_batch_size": 16, "eval_batch_size": 16, "num_workers": 2}
            data = Folder("bench", root=folder, **folders, **loaders, seed=0)
            where = {"default_root_dir": Path(folder) / "results", "accelerator": "cpu"}
            engine = Engine(**where, enable_progress_bar=False, logger=False)
            engine.fit(model, datamodule=data)
            engine.test(model, datamodule=data, verbose=False)

        return paired(
            theirs, lambda: experiment(dataset, backbone, {"paper": [PADIM]}, 1, batch_size=16).run(), repeats
        )


def mhpatchcore_over_ours(dataset: PreparedDataset, repeats: int) -> tuple[float, float, float]:
    """MH-PatchCore's fit and test over PaDiM-ACE's, of the same images and ResNet-18, one seed."""
    settings = Settings(seeds=(0,))

    def theirs() -> None:
        [*_] = anomalib_baselines.run_peers(dataset, settings, ["mhpatchcore"], ["scenes"])

    return paired(theirs, lambda: experiment(dataset, "resnet18", {"scenes": [Detector()]}, 1).run(), repeats)


def peak_memory(dataset: PreparedDataset, backbone: str, images: int) -> float:
    """Peak resident memory in MB of a process that fits PaDiM to so many normal images, and scores.

    The number held out is the same for every number that trains.
    """
    torch.set_num_threads(THREADS)
    normal, anomalous = (
        np.flatnonzero(dataset.manifest["label"] == label) for label in ("normal", "anomalous")
    )
    # images are repeated where the dataset has too few
    rows = np.concatenate([np.resize(normal, images * 5 // 4), anomalous[:: max(1, len(anomalous) // 40)]])
    small = PreparedDataset(dataset.root, dataset.manifest.iloc[rows].reset_index(drop=True))
    run = experiment(small, backbone, {"paper": [PADIM]}, 1)
    roles = run.runs[0].roles
    extra = np.flatnonzero((roles == "test") & ~small.anomalous)[20:]
    roles[extra] = "validation"
    run.run()
    # getrusage would give the parent's peak where that was higher: a child starts with it
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def published_scoring(
    x: torch.Tensor, mean: torch.Tensor, precision: torch.Tensor, s: torch.Tensor
) -> torch.Tensor:
    """The published step: each batch decomposes every patch's matrix again, whitens, normalises, multiplies.

    x is [image, place, feature], mean and s [place, feature], precision [place, feature, feature].
    """
    u, d, _ = torch.linalg.svd(precision)
    whiten = d.rsqrt().unsqueeze(-1) * u.mT
    white = torch.nn.functional.normalize(torch.einsum("pij,npj->npi", whiten, x - mean), dim=-1)
    target = torch.nn.functional.normalize(torch.einsum("pij,pj->pi", whiten, s), dim=-1)
    return torch.einsum("npi,pi->np", white, target)


def reference_scoring_over_ours(repeats: int) -> tuple[float, float, float]:
    """The published scoring step over ours on the same embeddings: 16 images, 4,096 patches, 100 features.

    Ours works on the feature pyramid, which the backbone gives, the published one on the flat embedding.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = ((256, 57), (1024, 29), (4096, 14))
    pyramid = [torch.randn(places, 216, count, generator=generator) for places, count in sizes]
    moments, flat_moments = Moments(), Moments()
    moments.update([stage[:, 16:] for stage in pyramid])
    flat_moments.update([flatten(pyramid)[:, 16:]])
    background, flat = fit_background(moments), fit_background(flat_moments)
    places, features = zip(*sizes, strict=True)
    product = Full(background.whitening, Shape(places, features))
    batch = [stage[:, :16].contiguous() for stage in pyramid]
    prepared = product.prepare([stage[:, :1].contiguous() for stage in background.centre(batch)])

    def ours() -> torch.Tensor:
        energy, (projection,) = product.measure(background.centre(batch), [prepared])
        return ace(projection[..., 0], energy, prepared.energy)

    x, mean, white = flatten(batch).transpose(0, 1).contiguous(), flat.mean[0], flat.whitening.own[0]
    precision, signature = white.mT @ white, x[0] - mean
    return paired(lambda: published_scoring(x, mean, precision, signature), ours, repeats)


def main() -> None:
    """Run everything and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=300, help="scenes for the timings")
    parser.add_argument("--repeats", type=int, default=3, help="pairs for each ratio")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    warnings.filterwarnings("ignore")
    whole, backbone = prepared_images()
    dataset = subset(whole, arguments.scenes)
    repeats = arguments.repeats
    images = f"{whole.root.name}: {len(dataset)} images"
    print(f"{images}; {backbone}; {THREADS} threads; medians of {repeats} pairs")
    report: dict[str, object] = {}

    def show(name: str, value: float, goal: str, detail: str) -> None:
        report[name] = round(value, 3)
        print(f"{name:30} {value:9.2f}   goal {goal:7}  {detail}", flush=True)

    a, b, ratio = grid_over_backbone(dataset, backbone, repeats)
    judged = sum(map(len, GRID.values()))
    detail = f"{a:.1f} s for {judged} detectors under {len(GRID)} protocols × 3 seeds, {b:.1f} s bare"
    show("grid_over_backbone", ratio, "<= 1.3", detail)
    ten, one = (lambda n=n: experiment(dataset, backbone, GRID, n).run() for n in (10, 1))
    a, b, ratio = paired(ten, one, repeats)
    show("ten_seeds_over_one", ratio, "<= 1.5", f"{a:.1f} s, {b:.1f} s")
    a, b, ratio = anomalib_over_ours(dataset, backbone, repeats)
    show("anomalib_over_ours", ratio, ">= 3", f"{a:.1f} s by anomalib's Engine, {b:.1f} s here")
    if backbone == "resnet18":
        few = subset(whole, 40)
        a, b, ratio = mhpatchcore_over_ours(few, 1)
        show("mhpatchcore_over_ours", ratio, ">= 4", f"{a:.1f} s, {b:.1f} s here, {len(few)} images")
    fresh = {"max_workers": 1, "mp_context": get_context("spawn"), "max_tasks_per_child": 1}
    with ProcessPoolExecutor(**fresh) as processes:
        a, b = processes.map(peak_memory, [whole] * 2, [backbone] * 2, (2000, 200))
    show("memory_2000_over_200", a / b, "<= 1.1", f"{a:.0f} MB, {b:.0f} MB at the peak")
    a, b, ratio = reference_scoring_over_ours(repeats)
    show("reference_scoring_over_ours", ratio, ">= 100", f"{a:.2f} s as published, {b:.4f} s here")
    folder = scene.prepare_scenes(ROOT / "build/bench/scenes")
    a, b, ratio = paired(lambda: scene.bare(folder), lambda: scene.detect(folder), repeats)
    show("scene_over_backbone", ratio, ">= 0.6", f"{b:.1f} s for {scene.SIDE}² px, {a:.1f} s bare")
    with ProcessPoolExecutor(**fresh) as processes:
        large, small = processes.map(scene.peak_memory, [folder] * 2, ("large", "small"), [THREADS] * 2)
    show(
        "scene_memory_16384_over_4096", large / small, "<= 1.1", f"{large:.0f} MB, {small:.0f} MB at the peak"
    )
    a, b, ratio = paired(*scene.tiled_padim(folder), repeats)
    show(
        "tiled_padim_over_ours", ratio, ">= 3", f"{a:.1f} s by anomalib on tiles of 1024² px, {b:.1f} s here"
    )
    report.update(dataset=whole.root.name, images=len(dataset), backbone=backbone, threads=THREADS)
    results.write_json(report, ROOT / "bench/latest.json")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
