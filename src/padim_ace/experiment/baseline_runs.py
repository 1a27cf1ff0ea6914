"""All baselines on a prepared dataset: the rows of ``scores.csv``, and what could not be run."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.backbones import WeightsError
from padim_ace.detect.maps import anomaly_map, smoothing_matrix
from padim_ace.experiment import anomalib_baselines as models
from padim_ace.experiment import rx
from padim_ace.experiment.baselines import BASELINES, NOT_RUN
from padim_ace.experiment.dataset import PreparedDataset, batches
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.metrics import Truth
from padim_ace.experiment.protocols import PROTOCOLS, draws
from padim_ace.experiment.results import NAMES
from padim_ace.experiment.tally import Tally

GREY = [(name, smoothing) for smoothing in (4.0, 2.0) for name in ("rx", "rx_shared", "cfar")]
"""RX against the local background and the training normals', and CFAR, each with PaDiM's smoothing and with
that of the recommended detector."""


def run_baselines(
    dataset: PreparedDataset, name: str, settings: Settings, command: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All baselines but the rivals: their rows of ``scores.csv``, and the rows of ``not_run.csv`` for those
    without weights, the paper's DFM included.

    ``name`` is the dataset's in the rows, ``command`` what would run the missing ones once their weights are
    within reach.
    """
    grey = [_row(detector) | {"smoothing": f"{sigma:g}"} for detector, sigma in GREY]
    frames, missing = [run_rx(dataset, settings).frame(grey, dataset=name)], []
    runs = {
        "dfm": lambda: models.require_weights("DFM", models.RESNET50),
        "dfm_resnet18": lambda: next(models.run_peers(dataset, settings, ["dfm_resnet18"], [*PROTOCOLS]))[-1],
        "winclip": lambda: models.run_winclip(dataset, settings, models.load_winclip()),
    }
    for detector, run in runs.items():
        try:
            tally = run()
        except WeightsError as error:
            how = command.replace("make book", "make rivals") if BASELINES[detector].rival else command
            missing.append((name, detector, BASELINES[detector].backbone, str(error), how))
        else:
            frames += [tally.frame([_row(detector)], dataset=name)] if tally else []
    return pd.concat(frames), pd.DataFrame(sorted(missing), columns=list(NOT_RUN))


def run_rivals(
    dataset: PreparedDataset, name: str, settings: Settings, rivals: Sequence[str]
) -> pd.DataFrame:
    """Rows of ``scores.csv`` of rivals, with scenes apart and, where the paper has their numbers, as there.

    Those that take the same layers share what the network says; without its weights it is a WeightsError.
    """
    frames = [
        tally.frame([_row(detector, backbone)], dataset=name)
        for together, protocols in (
            (["dfm"], [*PROTOCOLS]),
            (["fre_resnet18"], ["scenes"]),
            (["mhpatchcore", "patchcore"], ["scenes"]),
        )
        if (run := [rival for rival in together if rival in rivals])
        for detector, backbone, tally in models.run_peers(dataset, settings, run, protocols)
    ]
    return pd.concat(frames)


def _row(detector: str, backbone: str = "") -> dict[str, str]:
    named = {"detector": detector, "backbone": backbone or BASELINES[detector].backbone}
    return dict.fromkeys(NAMES, "") | named


def run_rx(dataset: PreparedDataset, settings: Settings) -> Tally:
    """All :data:`GREY`, by their numbers."""
    tally = Tally(dataset, draws(PROTOCOLS, settings.seeds), [False] * len(GREY), settings.device)
    backgrounds = _grey_backgrounds(dataset, settings, tally)
    smoothing = {
        sigma: [smoothing_matrix(n, n, sigma).to(settings.device) for n in settings.image_size]
        for _, sigma in GREY
    }
    test = tally.with_role("test")
    for index, images, truths in _grey(dataset, settings, test, "RX, score", dataset.levels):
        alike = {"rx": rx.local_rx(images), "cfar": rx.cfar(images)}  # for all draws
        smooth = {key: anomaly_map(alike[key[0]], *smoothing[key[1]]) for key in GREY if key[0] in alike}
        vectors = rx.neighbourhoods(images)
        for number, background in enumerate(backgrounds):
            chosen = tally.members(number, index)
            if not len(chosen):
                continue
            distances = rx.shared_rx((vectors[i] for i in chosen), background, settings.image_size)
            judged = {level: truth.select(chosen) for level, truth in truths.items()}
            for detector, key in enumerate(GREY):
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
