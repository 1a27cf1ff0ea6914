"""Baselines on the same images, splits and metrics: anomalib's DFM and WinCLIP, and RX on grey levels.

The metrics are of the models' raw scores: anomalib's post-processing clamps scores to [0, 1], and the ties
that makes change AUROC (deviation D10). The images of anomalib's models go through each model's own
pre-processor; DFM's image score and WinCLIP's are the models' own, RX's is the maximum of its smoothed map.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from padim_ace.detect.backbones import WeightsError
from padim_ace.detect.maps import anomaly_map, image_score, smoothing_matrix
from padim_ace.experiment import rx
from padim_ace.experiment.dataset import PreparedDataset, batches
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.metrics import Histogram, Truth, image_metrics
from padim_ace.experiment.results import write_text

Model = Any
"""An anomalib model. Its class is imported where it is made, for that takes ten seconds."""
BACKBONES = {"rx": "", "rx_shared": "", "dfm": "resnet50", "winclip": "vit_b_16_plus_240"}
"""The baselines, and what stands in the column ``backbone`` of their scores."""
RESNET50 = "timm/resnet50.a1_in1k"
CLIP = "timm/vit_base_patch16_plus_clip_240.laion400m_e31"
NOT_RUN = ("dataset", "detector", "backbone", "reason", "command")
"""The columns of ``not_run.csv``, what a run left out, why, and the command that would run it."""


class Tally:
    """Image scores and pixel histograms of one detector on the test images of each seed."""

    def __init__(self, dataset: PreparedDataset, settings: Settings) -> None:
        self.dataset = dataset
        self.seeds = settings.seeds
        self.roles = [dataset.draw_roles(seed) for seed in settings.seeds]
        self.image = np.full((len(self.seeds), len(dataset)), np.nan)
        self.pixel = (
            [Histogram(bounded=False, device=settings.device) for _ in self.seeds]
            if dataset.has_masks
            else []
        )

    def index(self, role: str) -> np.ndarray:
        """The images that have a role in any seed."""
        return np.flatnonzero((np.stack(self.roles) == role).any(0))

    def members(self, number: int, index: np.ndarray) -> np.ndarray:
        """Which of the images ``index`` the seed of this number tests on, as places in ``index``."""
        return np.flatnonzero(self.roles[number][index] == "test")

    def add(
        self,
        number: int,
        index: np.ndarray,
        scores: Float[Tensor, " batch"],
        maps: Float[Tensor, "batch row column"],
        truth: Truth | None,
    ) -> None:
        """Add test images of the seed of this number: their rows in the manifest, scores, maps and truth."""
        self.image[number, index] = scores.cpu().numpy()
        if truth is not None:
            self.pixel[number].update(maps, truth)

    def rows(self, dataset: str, detector: str) -> pd.DataFrame:
        """The test metrics as rows of ``scores.csv``."""
        rows = []
        where = dict.fromkeys(("covariance", "aggregation", "signature", "convention"), "")
        where |= {"dataset": dataset, "detector": detector, "backbone": BACKBONES[detector]}
        for number, seed in enumerate(self.seeds):
            test = self.roles[number] == "test"
            levels = {"image": image_metrics(self.image[number, test], self.dataset.anomalous[test])}
            if self.pixel:
                levels["pixel"] = self.pixel[number].metrics()
            for level, metrics in levels.items():
                rows += [
                    {**where, "seed": seed, "level": level, "metric": metric, "value": value}
                    for metric, value in metrics.items()
                ]
        return pd.DataFrame(rows)


# RX


def run_rx(dataset: PreparedDataset, settings: Settings) -> dict[str, Tally]:
    """RX against the local background (``rx``) and against the training normals' (``rx_shared``)."""
    tallies = {name: Tally(dataset, settings) for name in ("rx", "rx_shared")}
    local, shared = tallies.values()
    backgrounds = _grey_backgrounds(dataset, settings, shared)
    rows, columns = (smoothing_matrix(n, n).to(settings.device) for n in settings.image_size)
    for index, images, truth in _grey(
        dataset, settings, shared.index("test"), "RX, score", bool(shared.pixel)
    ):
        near = anomaly_map(rx.local_rx(images), rows, columns)
        vectors = rx.neighbourhoods(images)
        for number, background in enumerate(backgrounds):
            chosen = shared.members(number, index)
            if not len(chosen):
                continue
            distances = rx.shared_rx((vectors[i] for i in chosen), background, settings.image_size)
            far = anomaly_map(distances, rows, columns)
            judged = truth.select(chosen) if truth is not None else None
            local.add(number, index[chosen], image_score(near[chosen]), near[chosen], judged)
            shared.add(number, index[chosen], image_score(far), far, judged)
    return tallies


def _grey_backgrounds(dataset: PreparedDataset, settings: Settings, tally: Tally) -> list[rx.GreyBackground]:
    """The background of each seed's training normals, from one pass over all of them."""
    train = tally.index("train")
    means, second = [], []
    for _, images, _ in _grey(dataset, settings, train, "RX, fit"):
        mean, product = rx.products(rx.neighbourhoods(images))
        means.append(mean)
        second.append(product)
    every = torch.cat(means), torch.cat(second)
    members = [torch.from_numpy(roles[train] == "train").to(every[0].device) for roles in tally.roles]
    return [rx.shared_background(every[0][m], every[1][m]) for m in members]


def _grey(
    dataset: PreparedDataset, settings: Settings, index: np.ndarray, what: str, masks: bool = False
) -> Iterator[tuple[np.ndarray, Float[Tensor, "batch row column"], Truth | None]]:
    s = settings
    with tqdm(total=len(index), desc=what, unit="image", mininterval=1) as bar:
        for batch in batches(dataset, index, s.image_size, s.batch_size, masks=masks, workers=s.workers):
            truth = Truth.of(batch.masks, s.device) if batch.masks is not None else None
            yield batch.index, batch.images[:, 0].to(s.device), truth
            bar.update(len(batch.index))


# anomalib's models


def load_dfm(weights: str = "hub") -> Model:
    """anomalib's DFM with its defaults: the third layer of a ResNet-50, features pooled 4 × 4, PCA to 97 %.

    Args:
        weights: ``hub``, or ``random`` for tests.

    Raises:
        WeightsError: if the hub's weights are neither cached nor within reach.
    """
    with _weights("DFM", RESNET50, weights):
        from anomalib.models import Dfm

        return Dfm(pre_trained=weights == "hub").eval()


def load_winclip(weights: str = "hub") -> Model:
    """anomalib's zero-shot WinCLIP with its defaults, prompts about an "object".

    Args:
        weights: ``hub``, or ``random`` for tests.

    Raises:
        WeightsError: if open-clip-torch is not installed, or its weights are neither cached nor within reach.
    """
    from anomalib.models import WinClip
    from anomalib.models.image.winclip import torch_model

    # the model names its weights in a constant, and has no argument to leave them out
    constant = patch.object(torch_model, "PRETRAINED", None) if weights == "random" else nullcontext()
    with _weights("WinCLIP", CLIP, weights), constant:
        model = WinClip()
        model.setup("test")
        return model.eval()


class _weights:
    """Turns what goes wrong while a model loads its weights into one line."""

    def __init__(self, model: str, repository: str, weights: str) -> None:
        if weights not in ("hub", "random"):
            raise ValueError(f"{model}: expected weights hub or random, found {weights!r}")
        self.model, self.repository, self.weights = model, repository, weights

    def __enter__(self) -> None:
        """Ask the hub once: the models' own downloads retry for about a minute before they give up."""
        if self.weights == "random":
            return
        from huggingface_hub import HfApi, snapshot_download

        try:
            snapshot_download(self.repository, local_files_only=True)
        except Exception:  # not in the cache
            try:
                HfApi().model_info(self.repository, timeout=10)
            except Exception as error:  # the client raises many kinds; each means that there are no weights
                raise self._error() from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Say in one line that the model's own loading failed."""
        if isinstance(error, ImportError | OSError | RuntimeError) and not isinstance(error, WeightsError):
            raise self._error() from error

    def _error(self) -> WeightsError:
        return WeightsError(
            f"{self.model}: expected weights {self.repository}, found none in the cache or on the hub; "
            "run with a network, or set HF_HOME to a cache that has them"
        )


def run_dfm(dataset: PreparedDataset, settings: Settings, model: Model) -> Tally:
    """DFM, fitted for each seed on its training normals.

    The backbone sees each image once; its pooled features (16,384 numbers an image) are kept for all seeds.
    """
    tally = Tally(dataset, settings)
    model = model.to(settings.device)
    wanted = np.union1d(tally.index("train"), tally.index("test"))
    parts = []
    with torch.inference_mode():
        for index in _groups(wanted, settings.batch_size, "DFM, features"):
            images = prepared_images(dataset, index, model.pre_processor).to(settings.device)
            part, shape = model.model.get_features(images)
            parts.append(part)
        features = torch.cat(parts)
        row = np.full(len(dataset), -1)
        row[wanted] = np.arange(len(wanted))
        for number, roles in enumerate(tally.roles):
            model.model.memory_bank = [features[row[roles == "train"]]]
            model.model.fit()
            test = np.flatnonzero(roles == "test")
            for index in _groups(test, settings.batch_size, "DFM, score"):
                scores, maps = model.model.score(features[row[index]], (len(index), *shape[1:]))
                _add_resized(tally, number, index, scores, maps[:, 0], settings)
    return tally


def run_winclip(dataset: PreparedDataset, settings: Settings, model: Model) -> Tally:
    """WinCLIP, zero-shot: no training images, so that an image's score is the same for all seeds."""
    tally = Tally(dataset, settings)
    model = model.to(settings.device)
    with torch.inference_mode():
        for index in _groups(tally.index("test"), settings.batch_size, "WinCLIP, score"):
            images = prepared_images(dataset, index, model.pre_processor).to(settings.device)
            found = model.model(images)
            for number in range(len(tally.seeds)):
                chosen = tally.members(number, index)
                if len(chosen):
                    _add_resized(
                        tally,
                        number,
                        index[chosen],
                        found.pred_score[chosen],
                        found.anomaly_map[chosen],
                        settings,
                    )
    return tally


def prepared_images(
    dataset: PreparedDataset, index: Sequence[int] | np.ndarray, pre_processor: Any
) -> Float[Tensor, "batch 3 row column"]:
    """Images at their own size in [0, 1], three equal channels, each through a model's pre-processor."""
    sizes = dataset.manifest[["height", "width"]].to_numpy()
    images = [dataset.image(int(i), (int(sizes[i][0]), int(sizes[i][1]))) for i in index]
    return torch.stack([pre_processor.transform(image.expand(3, -1, -1)) for image in images])


def _groups(index: np.ndarray, size: int, what: str) -> Iterator[np.ndarray]:
    with tqdm(total=len(index), desc=what, unit="image", mininterval=1) as bar:
        for start in range(0, len(index), size):
            yield index[start : start + size]
            bar.update(len(index[start : start + size]))


def _add_resized(
    tally: Tally, number: int, index: np.ndarray, scores: Tensor, maps: Tensor, settings: Settings
) -> None:
    """Add images whose maps are first brought (bilinear) to the size at which all detectors are compared."""
    size = settings.image_size
    maps = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    truth = None
    if tally.pixel:
        masks = torch.stack([tally.dataset.mask(int(i), size) for i in index])
        truth = Truth.of(masks, settings.device)
    tally.add(number, index, scores, maps, truth)


# what was not run


@dataclass(frozen=True)
class NotRun:
    """A row of ``not_run.csv``."""

    dataset: str
    detector: str
    backbone: str
    reason: str
    command: str


def run_baselines(
    dataset: PreparedDataset, name: str, settings: Settings, command: str, weights: str = "hub"
) -> tuple[pd.DataFrame, list[NotRun]]:
    """All baselines: their rows of ``scores.csv``, and those whose weights are not at hand.

    Args:
        dataset: the prepared images.
        name: the dataset's name in the rows.
        settings: seeds, image size, batch size and device; its other fields are not used.
        command: what would run the missing ones, once their weights are within reach.
        weights: of DFM and WinCLIP: ``hub``, or ``random`` for tests.
    """
    tallies = run_rx(dataset, settings)
    missing = []
    runs: dict[str, Callable[[], Tally]] = {
        "dfm": lambda: run_dfm(dataset, settings, load_dfm(weights)),
        "winclip": lambda: run_winclip(dataset, settings, load_winclip(weights)),
    }
    for detector, run in runs.items():
        try:
            tallies[detector] = run()
        except WeightsError as error:
            missing.append(NotRun(name, detector, BACKBONES[detector], str(error), command))
    return pd.concat([tally.rows(name, detector) for detector, tally in tallies.items()]), missing


def write_not_run(rows: Iterable[NotRun], path: Path | str) -> None:
    """Write ``not_run.csv``, sorted; only its header if everything ran."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(NOT_RUN)
    writer.writerows(sorted(tuple(getattr(row, column) for column in NOT_RUN) for row in rows))
    write_text(text.getvalue(), path)
