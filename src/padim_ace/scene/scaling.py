"""From a scene's values to the grey levels that a network sees: part of a model, found when it is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SCALES = ("linear", "log", "db")
"""Amplitudes as they are; their logarithm; decibels, which become amplitudes."""
QUANTILES = (0.001, 0.05, 0.5, 0.95, 0.999)
"""Of valid pixels: black, the least and the median grey level of a scene, the most, white less headroom."""
HEADROOM = 2.0
"""White over the uppermost quantile, both from black: targets are brighter than clutter."""
OUTSIDE = 0.1
"""The part of a scene that may lie outside of the fitted range before it is warned about."""


@dataclass(frozen=True)
class Scaling:
    """A scale with its black and white points, and the fitted pixels' quantiles as grey levels."""

    scale: str
    black: float
    white: float
    low: float = 0.0
    middle: float = 0.5
    high: float = 1.0

    @classmethod
    def of(cls, values: Float[np.ndarray, " value"], scale: str) -> Scaling:
        """The scaling that robust quantiles of valid pixels give.

        Raises:
            ValueError: for an unknown scale, no value, or values that are all the same.
        """
        if scale not in SCALES:
            raise ValueError(f"scale: expected one of {', '.join(SCALES)}, found {scale!r}")
        if not len(values):
            raise ValueError("normals: expected valid pixels, found none; is all of it no-data?")
        black, *between, top = np.quantile(_amplitudes(values, scale), QUANTILES).tolist()
        if not top > black:
            raise ValueError(f"normals: expected values that differ, found {black:g} throughout")
        white = black + HEADROOM * (top - black)
        return cls(scale, black, white, *((value - black) / (white - black) for value in between))

    def __call__(self, values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Grey levels, cut to [0, 1]."""
        grey = (_amplitudes(values, self.scale) - self.black) / (self.white - self.black)
        return np.nan_to_num(grey, nan=0).clip(0, 1).astype(np.float32)

    def complaint(self, values: Float[np.ndarray, " value"]) -> str:
        """Why a scene with these valid pixels is unlike the fitted ones, in one line; else empty."""
        levels = _amplitudes(values, self.scale)
        outside, middle = (
            float(((levels < self.black) | (levels > self.white)).mean()),
            np.median(self(values)),
        )
        if outside <= OUTSIDE and self.low <= middle <= self.high:
            return ""
        return (
            f"expected a median grey of {self.low:.3f} to {self.high:.3f}, as fitted, found {middle:.3f} "
            f"and {100 * outside:.0f} % outside of the fitted range; check scale, band and calibration"
        )


def _amplitudes(values: np.ndarray, scale: str) -> np.ndarray:
    values = np.asarray(values, np.float32)
    if scale == "log":
        return np.log(np.maximum(values, np.finfo(np.float32).tiny))
    return np.power(np.float32(10), np.minimum(values, 200) / 20) if scale == "db" else values
