"""Thresholds for a false-alarm rate, from the scores of held-out normal patches.

Down to the rate that they resolve the threshold is their quantile. Below, it is extrapolated by a generalised
Pareto distribution, which the excess over a high level follows in the limit whatever the law of the scores
(Pickands 1975), fitted by probability-weighted moments (Hosking and Wallis 1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

RESOLVED = 50
"""Scores above a threshold that it takes for it to be a quantile, and for a tail to be fitted."""
SHAPES = (-0.2, 0.5)
PRIOR = 200
"""Shapes that are believed, and how many scores an exponential tail, of shape 0, counts for: a few scores, of
patches that are neighbours, can look bounded."""
KEPT = 0.05
"""The part of the scores that is kept, the largest; no higher rate can be asked for."""


@dataclass(frozen=True)
class Tail:
    """The largest of ``count`` scores of background, falling, and the law of the first ``above`` of them."""

    count: int
    largest: list[float]
    above: int
    shape: float
    scale: float

    @classmethod
    def of(cls, scores: Float[np.ndarray, " patch"]) -> Tail | None:
        """Of held-out scores; None for too few of them."""
        count = len(scores)
        if count < 2 * RESOLVED / KEPT:
            return None
        largest = np.sort(scores)[::-1][: int(KEPT * count)].astype(float)
        above = max(RESOLVED, count // 200)
        excess = largest[:above][::-1] - largest[above]  # rising
        mean, weighted = excess.mean(), (excess * (1 - (np.arange(above) + 0.65) / above)).mean()
        shape = float(np.clip(2 - mean / max(mean - 2 * weighted, 1e-12), *SHAPES)) * above / (above + PRIOR)
        return cls(count, largest.tolist(), above, shape, float(mean) * (1 - shape))

    def threshold(self, rate: float) -> float:
        """The score that background exceeds at this rate.

        Raises:
            ValueError: for a rate that is not above 0, or above 0.05.
        """
        if not 0 < rate <= KEPT:
            raise ValueError(f"pfa: expected a rate above 0, at most {KEPT}, found {rate}")
        if rate * self.count >= self.above:
            return self.largest[min(int(rate * self.count), len(self.largest) - 1)]
        odds = math.log(self.above / (self.count * rate))
        longer = math.expm1(self.shape * odds) / self.shape if self.shape else odds
        return self.largest[self.above] + self.scale * longer
