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

DETECTORS = [(name, smoothing) for smoothing in (4.0, 2.0) for name in ("rx", "rx_shared", "cfar")]
"""RX against the local background and the training normals', and CFAR, each with PaDiM's smoothing and with
that of the recommended detector."""


def run_rx(dataset: PreparedDataset, settings: Settings) -> Tally:
    """All :data:`DETECTORS`, by their numbers."""
    tally = Tally(dataset, draws(PROTOCOLS, settings.seeds), [False] * len(DETECTORS), settings.device)
    backgrounds = _grey_backgrounds(dataset, settings, tally)
    smoothing = {
        sigma: [smoothing_matrix(n, n, sigma).to(settings.device) for n in settings.image_size]
        for _, sigma in DETECTORS
    }
    test = tally.with_role("test")
    for index, images, truths in _grey(dataset, settings, test, "RX, score", dataset.levels):
        alike = {"rx": rx.local_rx(images), "cfar": rx.cfar(images)}  # for all draws
        smooth = {key: anomaly_map(alike[key[0]], *smoothing[key[1]]) for key in DETECTORS if key[0] in alike}
        vectors = rx.neighbourhoods(images)
        for number, background in enumerate(backgrounds):
            chosen = tally.members(number, index)
            if not len(chosen):
                continue
            distances = rx.shared_rx((vectors[i] for i in chosen), background, settings.image_size)
            judged = {level: truth.select(chosen) for level, truth in truths.items()}
            for detector, key in enumerate(DETECTORS):
                maps = smooth[key][chosen] if key in smooth else anomaly_map(distances, *smoothing[key[1]])
                tally.add((number, detector, "test"), index[chosen], maps, judged)
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
