"""Time and memory of the one pass, as ratios within one run. `make bench` runs this; it asserts nothing.

Real MSTAR images from PADIM_ACE_DATA with ResNet-18 from PADIM_ACE_WEIGHTS, else simulated images and
EfficientNet-Lite0. Each ratio is the median of pairs timed in turn, with the same number of threads on both
sides.
"""

import logging
import os

os.environ.setdefault("TQDM_DISABLE", "1")

import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from timeit import timeit
from typing import Any

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
SCENES, REPEATS = 300, 3  # images of each kind, and pairs for each ratio
GRID = {protocol: DETECTORS[protocol] for protocol in PROTOCOLS}
"""The detectors of both protocols, as the book runs them: each judged under its protocol, in one pass."""


def prepared_images() -> tuple[PreparedDataset, str]:
    """The images, prepared once, and the backbone to use on them."""
    name = "mstar" if "PADIM_ACE_DATA" in os.environ else "demo_vehicle"
    root = prepare(name, None, ROOT / "build/bench" / name, processes=2)
    backbone = "resnet18" if "PADIM_ACE_WEIGHTS" in os.environ else "tf_efficientnet_lite0"
    return PreparedDataset.open(root), backbone


def subset(dataset: PreparedDataset, scenes: int) -> PreparedDataset:
    """Scenes at equal steps through the dataset: each as a normal and an anomalous image."""
    kept = []
    for label in ("normal", "anomalous"):
        rows = np.flatnonzero(dataset.manifest["label"] == label)
        kept.append(rows[np.linspace(0, len(rows) - 1, min(scenes, len(rows))).round().astype(int)])
    return PreparedDataset(dataset.root, dataset.manifest.iloc[np.concatenate(kept)].reset_index(drop=True))


def paired(
    first: Callable[[], object], second: Callable[[], object], repeats: int = REPEATS
) -> tuple[float, float, float]:
    """Median seconds of both, and the median of the ratios of pairs timed in turn, the first uncounted."""
    pairs = [(timeit(first, number=1), timeit(second, number=1)) for _ in range(repeats + 1)][1:]
    first_median, second_median, ratio = np.median([(a, b, a / b) for a, b in pairs], axis=0).tolist()
    return first_median, second_median, ratio


def experiment(
    dataset: PreparedDataset, backbone: str, detectors: dict[str, list[Detector]], seeds: int, **settings: Any
) -> Experiment:
    """A fresh experiment with so many seeds, of detectors by protocol."""
    chosen = Settings(seeds=tuple(range(seeds)), **settings)
    return Experiment(dataset, load_backbone(backbone), detectors, chosen, conventions=CONVENTIONS)


def grid_over_backbone(dataset: PreparedDataset, backbone: str) -> tuple[float, float, float]:
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

    return paired(lambda: experiment(dataset, backbone, GRID, 3).run(), bare)


def anomalib_over_ours(dataset: PreparedDataset, backbone: str) -> tuple[float, float, float]:
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

        detectors = {"paper": [PADIM]}
        return paired(theirs, lambda: experiment(dataset, backbone, detectors, 1, batch_size=16).run())


def mhpatchcore_over_ours(dataset: PreparedDataset) -> tuple[float, float, float]:
    """MH-PatchCore's fit and test over PaDiM-ACE's, of the same images and ResNet-18, one seed."""
    theirs = partial(anomalib_baselines.run_peers, dataset, Settings(seeds=(0,)), ["mhpatchcore"], ["scenes"])
    detectors = {"scenes": [Detector()]}
    return paired(lambda: [*theirs()], lambda: experiment(dataset, "resnet18", detectors, 1).run(), 1)


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


def reference_scoring_over_ours() -> tuple[float, float, float]:
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
    return paired(lambda: published_scoring(x, mean, precision, signature), ours)


def main() -> None:
    """Run everything and report."""
    torch.set_num_threads(THREADS)
    warnings.filterwarnings("ignore")
    whole, backbone = prepared_images()
    dataset = subset(whole, SCENES)
    about = {"dataset": whole.root.name, "images": len(dataset), "backbone": backbone, "threads": THREADS}
    print(f"{about}; medians of {REPEATS} pairs")
    report: dict[str, object] = {}

    def show(name: str, goal: str, timed: tuple[float, float, float], unit: str = "s") -> None:
        report[name] = round(timed[2], 3)
        both = ", ".join(f"{value:.4g} {unit}" for value in timed[:2])
        print(f"{name:30} {timed[2]:9.2f}   goal {goal:7}  {both}", flush=True)

    show("grid_over_backbone", "<= 1.15", grid_over_backbone(dataset, backbone))
    ten, one = (lambda n=n: experiment(dataset, backbone, GRID, n).run() for n in (10, 1))
    show("ten_seeds_over_one", "<= 1.6", paired(ten, one))
    show("anomalib_over_ours", ">= 4", anomalib_over_ours(dataset, backbone))
    if backbone == "resnet18":
        show("mhpatchcore_over_ours", ">= 4", mhpatchcore_over_ours(subset(whole, 40)))
    fresh = {"max_workers": 1, "mp_context": get_context("spawn"), "max_tasks_per_child": 1}
    with ProcessPoolExecutor(**fresh) as processes:
        a, b = processes.map(peak_memory, [whole] * 2, [backbone] * 2, (2000, 200))
    show("memory_2000_over_200", "<= 1.05", (a, b, a / b), "MB")
    show("reference_scoring_over_ours", ">= 400", reference_scoring_over_ours())
    folder = scene.prepare_scenes(ROOT / "build/bench/scenes")
    show("scene_over_backbone", ">= 0.6", paired(lambda: scene.bare(folder), lambda: scene.detect(folder)))
    with ProcessPoolExecutor(**fresh) as processes:
        a, b = processes.map(scene.peak_memory, [folder] * 2, ("large", "small"), [THREADS] * 2)
    show("scene_memory_16384_over_4096", "<= 1.1", (a, b, a / b), "MB")
    show("tiled_padim_over_ours", ">= 3", paired(*scene.tiled_padim(folder)))
    results.write_json(report | about, ROOT / "bench/latest.json")


if __name__ == "__main__":
    main()
