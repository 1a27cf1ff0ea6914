"""What datasets and detectors are called on a page, from the registries that know them."""

from __future__ import annotations

from data_prep.datasets import title as dataset_title
from padim_ace.detect.detector import Detector
from padim_ace.detect.registry import BACKBONES, BACKGROUNDS, RANDOM, SIGNATURES, STATISTICS
from padim_ace.paper.published import MODELS, READING_TITLES

__all__ = ["background_words", "backbone_title", "dataset_title", "detector_title", "detector_words"]


def backbone_title(name: str) -> str:
    """What a backbone is called."""
    plain = name.removesuffix(RANDOM)
    title = BACKBONES[plain].title if plain in BACKBONES else plain
    return title if plain == name else f"{title}, random weights"


def background_words(background: str) -> str:
    """What sets a background apart from PaDiM's own; nothing for that."""
    return f"{BACKGROUNDS[background]} background" if background != "patch" else ""


def detector_words(detector: Detector) -> tuple[str, str]:
    """A detector's model, and what sets it apart from others of that model: its reading or its signature."""
    words = READING_TITLES.get(detector.convention, detector.convention)
    if detector.pooled:
        words = f"{SIGNATURES[detector.signature].title} signature"
    channels = "SAR channels" if detector.channels != "network" else ""
    about = ", ".join(filter(None, (words, channels, background_words(detector.background))))
    models = {"ace": MODELS["padim_ace"], "padim": MODELS["padim"]}
    return models.get(detector.statistic, STATISTICS[detector.statistic].title), about


def detector_title(detector: Detector) -> str:
    """What a detector is called where one phrase must do."""
    return ", ".join(filter(None, detector_words(detector)))
