"""RX and CFAR on a prepared dataset, with the splits and metrics of all other detectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.maps import anomaly_map, smoothing_matrix
from padim_ace.experiment import rx
from padim_ace.experiment.dataset import PreparedDataset, batches
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.metrics import Truth
from padim_ace.experiment.protocols import PROTOCOLS, draws
from padim_ace.experiment.tally import Tally


def run_rx(dataset: PreparedDataset, settings: Settings) -> Tally:
    """RX against the local background (detector 0), RX against the training normals' (1), CFAR (2)."""
    tally = Tally(dataset, draws(PROTOCOLS, settings.seeds), [False] * 3, settings.device)
    backgrounds = _grey_backgrounds(dataset, settings, tally)
    rows, columns = (smoothing_matrix(n, n).to(settings.device) for n in settings.image_size)
    test = tally.with_role("test")
    for index, images, truths in _grey(dataset, settings, test, "RX, score", dataset.levels):
        near, above = (anomaly_map(score(images), rows, columns) for score in (rx.local_rx, rx.cfar))
        vectors = rx.neighbourhoods(images)
        for number, background in enumerate(backgrounds):
            chosen = tally.members(number, index)
            if not len(chosen):
                continue
            distances = rx.shared_rx((vectors[i] for i in chosen), background, settings.image_size)
            far = anomaly_map(distances, rows, columns)
            judged = {level: truth.select(chosen) for level, truth in truths.items()}
            tally.add((number, 0, "test"), index[chosen], near[chosen], judged)
            tally.add((number, 1, "test"), index[chosen], far, judged)
            tally.add((number, 2, "test"), index[chosen], above[chosen], judged)
    return tally


def _grey_backgrounds(dataset: PreparedDataset, settings: Settings, tally: Tally) -> list[rx.GreyBackground]:
    """The background of each draw's training normals, from one pass over all of them."""
    train = tally.with_role("train")
    parts = [
        rx.products(rx.neighbourhoods(images)) for _, images, _ in _grey(dataset, settings, train, "RX, fit")
    ]
    means, second = map(torch.cat, zip(*parts, strict=True))
    members = [torch.from_numpy(roles[train] == "train").to(means.device) for roles in tally.roles]
    return [rx.shared_background(means[m], second[m]) for m in members]


def _grey(
    dataset: PreparedDataset, settings: Settings, index: np.ndarray, what: str, levels: Sequence[str] = ()
) -> Iterator[tuple[np.ndarray, Float[Tensor, "batch row column"], dict[str, Truth]]]:
    s = settings
    for batch in batches(
        dataset, index, s.image_size, s.batch_size, what=what, levels=levels, workers=s.workers
    ):
        truths = {level: Truth.of(masks, s.device) for level, masks in batch.masks.items()}
        yield batch.index, batch.images[:, 0].to(s.device), truths
