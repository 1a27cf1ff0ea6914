"""How images are dealt to training, validation and test; without torch."""

from collections.abc import Iterable
from dataclasses import dataclass

PROTOCOLS = {
    "scenes": "scenes apart: no scene that is judged has another role",
    "paper": "as the paper: an erased copy of a tested image may train",
}
"""What numbers are of, by the word in the column ``protocol``; a title for each."""
ARMS = {"apart": "tested images have no copy that trains", "twins": "their erased copies train"}
"""Two draws that differ in the leak of ``paper`` alone (deviation D11), with the same tested images."""
TRAIN_SHARE, TEST_SHARE = 0.8, 0.1  #: Of the normal images, or the scenes; validation has the rest


@dataclass(frozen=True)
class Draw:
    """What decides the roles of the images; features depend on the seed alone."""

    protocol: str
    seed: int


def draws(protocols: Iterable[str], seeds: Iterable[int]) -> list[Draw]:
    """Every seed under every protocol."""
    seeds = list(seeds)
    return [Draw(protocol, seed) for protocol in protocols for seed in seeds]
