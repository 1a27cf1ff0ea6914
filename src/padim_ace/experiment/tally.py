"""What the score pass measures: image scores and histograms of pixels, for every seed and detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from padim_ace.detect.maps import image_score
from padim_ace.experiment.detectors import Detector
from padim_ace.experiment.metrics import Histogram, Truth


@dataclass
class Scores:
    """What the score pass measured."""

    image: np.ndarray
    """``[seed, detector, image]``, NaN where the detector was not asked about the image."""
    pixel: dict[tuple[int, int, str], Histogram]
    """By (number of the seed, number of the detector, role); on validation images, the first seed's only."""


class Tally:
    """Gathers scores map by map, on the device of the maps; its state can be kept in between."""

    def __init__(self, detectors: Sequence[Detector], seeds: int, images: int, device: torch.device) -> None:
        self.detectors = detectors
        self.device = device
        self.image = torch.full((seeds, len(detectors), images), torch.nan, device=device)
        self.pixel: dict[tuple[int, int, str], Histogram] = {}

    def add(
        self,
        key: tuple[int, int, str],
        images: Int[Tensor, " image"],
        maps: Float[Tensor, "image row column"],
        truth: Truth | None,
    ) -> None:
        """Maps of some images.

        Args:
            key: number of the seed, number of the detector, role of the images.
            images: their rows in the manifest.
            maps: their anomaly maps.
            truth: of the same images, where pixels are judged.
        """
        seed, detector, _ = key
        self.image[seed, detector, images] = image_score(maps)
        if truth is not None:
            if key not in self.pixel:
                self.pixel[key] = Histogram(self.detectors[detector].bounded, self.device)
            self.pixel[key].update(maps, truth)

    def scores(self) -> Scores:
        """All that was gathered."""
        return Scores(self.image.cpu().numpy(), self.pixel)

    def state(self) -> dict[str, Any]:
        """What :meth:`load` takes."""
        return {"image": self.image, "pixel": {key: vars(found) for key, found in self.pixel.items()}}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self.image = state["image"]
        for key, found in state["pixel"].items():
            self.pixel[key] = Histogram(found["bounded"], self.device)
            vars(self.pixel[key]).update(found)
