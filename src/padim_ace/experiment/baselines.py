"""The baselines, with all that is said of them anywhere. Nothing here needs torch."""

from dataclasses import dataclass

NOT_RUN = ("dataset", "detector", "backbone", "reason", "command")
"""The columns of ``not_run.csv``, what a run left out, why, and the command that would run it."""


@dataclass(frozen=True)
class Baseline:
    """A detector that is not this project's own."""

    title: str
    about: str = ""  #: What sets it apart from others of the same title
    backbone: str = ""  #: What stands in the column ``backbone`` of its scores
    backbone_title: str = ""
    smoothing: str = ""  #: What stands in the column ``smoothing`` of its scores, where a page names no other
    rival: bool = False  #: Whether it is so slow that it has a run of its own (``make rivals``)


BASELINES = {
    "rx": Baseline("RX", "grey levels", smoothing="4"),
    "rx_shared": Baseline("RX", "one background", smoothing="4"),
    "cfar": Baseline("CA-CFAR", "grey levels, two parameters", smoothing="4"),
    "dfm": Baseline("DFM", "", "resnet50", "ResNet-50", rival=True),
    "dfm_resnet18": Baseline("DFM", "ResNet-18", "resnet18", "ResNet-18"),
    "fre_resnet18": Baseline("FRE", "ResNet-18", "resnet18", "ResNet-18", rival=True),
    "mhpatchcore": Baseline("MH-PatchCore", "≤ 500 images", "resnet18", "ResNet-18", rival=True),
    "patchcore": Baseline("PatchCore", "≤ 500 images, 0.1 % coreset", "resnet18", "ResNet-18", rival=True),
    "winclip": Baseline("WinCLIP", "", "vit_b_16_plus_240", "CLIP ViT-B/16+"),
}
"""By their names in ``scores.csv``."""
