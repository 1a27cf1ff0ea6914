"""All baselines on a prepared dataset: the rows of ``scores.csv``, and what could not be run."""

from __future__ import annotations

import pandas as pd

from padim_ace.detect.backbones import WeightsError
from padim_ace.experiment import anomalib_baselines as models
from padim_ace.experiment.baselines import BASELINES, NOT_RUN
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.protocols import PROTOCOLS
from padim_ace.experiment.results import NAMES
from padim_ace.experiment.rx_run import DETECTORS, run_rx


def run_baselines(
    dataset: PreparedDataset, name: str, settings: Settings, command: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All baselines but the rivals: their rows of ``scores.csv``, and the rows of ``not_run.csv`` for those
    without weights, the paper's DFM included.

    ``name`` is the dataset's in the rows, ``command`` what would run the missing ones once their weights are
    within reach.
    """
    grey = [_row(detector) | {"smoothing": f"{sigma:g}"} for detector, sigma in DETECTORS]
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


def run_rivals(dataset: PreparedDataset, name: str, settings: Settings) -> pd.DataFrame:
    """The rivals' rows of ``scores.csv``, with scenes apart and, where the paper has their numbers, as there.

    Those that take the same layers share what the network says.

    Raises:
        WeightsError: if the weights of a backbone are not at hand.
    """
    frames = [
        tally.frame([_row(detector, backbone)], dataset=name)
        for together, protocols in (
            (["dfm"], [*PROTOCOLS]),
            (["fre_resnet18"], ["scenes"]),
            (["mhpatchcore", "patchcore"], ["scenes"]),
        )
        for detector, backbone, tally in models.run_peers(dataset, settings, together, protocols)
    ]
    return pd.concat(frames)


def _row(detector: str, backbone: str = "") -> dict[str, str]:
    named = {"detector": detector, "backbone": backbone or BASELINES[detector].backbone}
    return dict.fromkeys(NAMES, "") | named
