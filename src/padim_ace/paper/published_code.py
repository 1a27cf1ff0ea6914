"""What the paper's published code computes, deviation by deviation, so that each can be switched on and off.

The code is Advanced-Vision-and-Learning-Lab/PaDiM-ACE at 7dff7f4. A *convention* names a set of deviations:
``centred`` has none, ``equation`` is Eq. (1) to the letter (D5), ``published`` has all; ``centred+D3`` adds
one and ``published-D3`` takes one away.
"""

from __future__ import annotations

import re

import torch
from jaxtyping import Float, Int
from torch import Tensor

DEVIATIONS = {
    "D1": "whitens with Σ^(+1/2): the precision is passed where the covariance belongs",
    "D2": "the diagonal is that of the precision, not of the covariance",
    "D3": "the mean signature is reshaped without permuting, mixing channels and places",
    "D4": "signature images are not normalised as the others are",
    "D5": "the background's mean is not subtracted from the signature",
    "D6": "the isotropic variance is always the log-determinant",
}

_BASE = {"centred": frozenset(), "equation": frozenset({"D5"}), "published": frozenset(DEVIATIONS)}


def deviations(convention: str) -> frozenset[str]:
    """The deviations that a convention has.

    Raises:
        ValueError: for a word that names no convention.
    """
    match = re.fullmatch(r"(centred|equation|published)(?:([+-])(D[1-6]))?", convention)
    if match is None:
        raise ValueError(
            f"convention: expected centred, equation or published, perhaps +D1 or -D1, found {convention!r}"
        )
    base, sign, name = match.groups()
    if sign is None:
        return _BASE[base]
    return _BASE[base] | {name} if sign == "+" else _BASE[base] - {name}


def scramble(
    mean: Float[Tensor, "place feature"], raster: Int[Tensor, " place"], seed: int
) -> Float[Tensor, "place feature"]:
    """D3: an (row, column, feature) mean read as (feature, row · column).

    Args:
        mean: signature at the places of the finest grid, in block order.
        raster: where the places of an image, row by row, are in block order (:attr:`Embedder.raster`).
        seed: the code keeps features in the order drawn, which the seed decides.
    """
    places, features = mean.shape
    order = torch.randperm(features, generator=torch.Generator().manual_seed(seed)).to(mean.device)
    image = mean[raster][:, order]  # (row · column, feature): the memory layout of (row, column, feature)
    wrong = image.reshape(features, places).T
    result = torch.empty_like(mean)
    result[raster] = wrong[:, order.argsort()]
    return result
