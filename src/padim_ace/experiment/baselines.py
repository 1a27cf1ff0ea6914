"""The baselines: which there are, and how all of them are run. Their names need no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from padim_ace.experiment.results import NAMES

if TYPE_CHECKING:
    from padim_ace.experiment.dataset import PreparedDataset
    from padim_ace.experiment.experiment import Settings

NOT_RUN = ("dataset", "detector", "backbone", "reason", "command")
"""The columns of ``not_run.csv``, what a run left out, why, and the command that would run it."""


@dataclass(frozen=True)
class Baseline:
    """A detector that is not this project's own."""

    title: str
    about: str = ""
    """What sets it apart from others of the same title."""
    backbone: str = ""
    """What stands in the column ``backbone`` of its scores."""
    backbone_title: str = ""


BASELINES = {
    "rx": Baseline("RX", "grey levels"),
    "rx_shared": Baseline("RX", "one background"),
    "dfm": Baseline("DFM", backbone="resnet50", backbone_title="ResNet-50"),
    "winclip": Baseline("WinCLIP", backbone="vit_b_16_plus_240", backbone_title="CLIP ViT-B/16+"),
}
"""By their names in ``scores.csv``."""


def run_baselines(
    dataset: PreparedDataset, name: str, settings: Settings, command: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All baselines: their rows of ``scores.csv``, and the rows of ``not_run.csv`` for those without weights.

    ``name`` is the dataset's in the rows, ``command`` what would run the missing ones once their weights are
    within reach.
    """
    from padim_ace.detect.backbones import WeightsError
    from padim_ace.experiment import anomalib_baselines as models
    from padim_ace.experiment.rx_run import run_rx

    frames, missing = [run_rx(dataset, settings).frame([_row("rx"), _row("rx_shared")], dataset=name)], []
    runs = {
        "dfm": lambda: models.run_dfm(dataset, settings, models.load_dfm()),
        "winclip": lambda: models.run_winclip(dataset, settings, models.load_winclip()),
    }
    for detector, run in runs.items():
        try:
            frames.append(run().frame([_row(detector)], dataset=name))
        except WeightsError as error:
            missing.append((name, detector, BASELINES[detector].backbone, str(error), command))
    return pd.concat(frames), pd.DataFrame(sorted(missing), columns=list(NOT_RUN))


def _row(detector: str) -> dict[str, str]:
    empty = dict.fromkeys(NAMES, "")
    return {**empty, "detector": detector, "backbone": BASELINES[detector].backbone}
