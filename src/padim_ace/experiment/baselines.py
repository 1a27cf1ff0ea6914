"""The baselines: which there are, and how all of them are run. Their names need no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from padim_ace.experiment.protocols import PROTOCOLS
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
    smoothing: str = ""
    """What stands in the column ``smoothing`` of its scores, where a page names no other."""
    rival: bool = False
    """Whether it is so slow that it has a run of its own, of fewer seeds (``make rivals``)."""


BASELINES = {
    "rx": Baseline("RX", "grey levels", smoothing="4"),
    "rx_shared": Baseline("RX", "one background", smoothing="4"),
    "cfar": Baseline("CA-CFAR", "grey levels, two parameters", smoothing="4"),
    "dfm": Baseline("DFM", "", "resnet50", "ResNet-50", rival=True),
    "dfm_resnet18": Baseline("DFM", "ResNet-18", "resnet18", "ResNet-18"),
    "fre_resnet18": Baseline("FRE", "ResNet-18", "resnet18", "ResNet-18", rival=True),
    "mhpatchcore": Baseline("MH-PatchCore", "≤ 1,000 images", "resnet18", "ResNet-18", rival=True),
    "patchcore": Baseline("PatchCore", "≤ 1,000 images, 0.1 % coreset", "resnet18", "ResNet-18", rival=True),
    "winclip": Baseline("WinCLIP", "", "vit_b_16_plus_240", "CLIP ViT-B/16+"),
}
"""By their names in ``scores.csv``."""


def run_baselines(
    dataset: PreparedDataset, name: str, settings: Settings, command: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All baselines but the rivals: their rows of ``scores.csv``, and the rows of ``not_run.csv`` for those
    without weights, the paper's DFM included.

    ``name`` is the dataset's in the rows, ``command`` what would run the missing ones once their weights are
    within reach.
    """
    from padim_ace.detect.backbones import WeightsError
    from padim_ace.experiment import anomalib_baselines as models
    from padim_ace.experiment.rx_run import DETECTORS, run_rx

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
    from padim_ace.experiment.anomalib_baselines import run_peers

    frames = [
        tally.frame([_row(detector, backbone)], dataset=name)
        for together, protocols in (
            (["dfm"], [*PROTOCOLS]),
            (["fre_resnet18"], ["scenes"]),
            (["mhpatchcore", "patchcore"], ["scenes"]),
        )
        for detector, backbone, tally in run_peers(dataset, settings, together, protocols)
    ]
    return pd.concat(frames)


def _row(detector: str, backbone: str = "") -> dict[str, str]:
    named = {"detector": detector, "backbone": backbone or BASELINES[detector].backbone}
    return dict.fromkeys(NAMES, "") | named
