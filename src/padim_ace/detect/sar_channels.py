r"""Channels made for SAR, computed from the image itself: grey levels and their contrast with what is around.

A pretrained network was taught by photographs, where a single bright point means little. In SAR that is
what a target looks like. A channel has one number for each *cell*, the pixels of a patch of the finest
grid. With x the grey levels of a cell, and :math:`\mu` and :math:`\sigma` their mean and standard deviation
in a square ring around it:

- ``grey``: the mean, the maximum, the minimum and the standard deviation of x;
- ``peak``: :math:`\log(1 + (\max x - \mu)_+ / \sigma)`, a two-parameter CFAR's statistic of the brightest
  pixel;
- ``power``: :math:`\log(1 + \overline{(x - \mu)^2} / \sigma^2)`: what differs from its surroundings, up or
  down.

``peak`` and ``power`` stay as they are when an image is multiplied by a number or a number is added, apart
from :data:`ROUNDING`. Grey levels are to rise with backscatter and to have one scale (amplitude, intensity
or decibels; of 8 bits, 16 or floating point) in all images of a detector, brought to [0, 1] in the same
way. Only pixels within half of :data:`OUTER` count.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

GUARD, OUTER = 64, 96  #: Sides of the ring, in pixels: a target is to fit into the guard
ROUNDING = 2 / 255  #: Added to the standard deviation around a cell: two steps of 8-bit grey levels


def sar_channels(
    images: Float[Tensor, "batch 1 row column"], grid: tuple[int, int]
) -> Float[Tensor, "batch channel patch_row patch_column"]:
    """All channels of images in [0, 1], in the order of :data:`padim_ace.detect.registry.SAR_CHANNELS`."""
    size = images.shape[-2], images.shape[-1]
    sides = [math.ceil(pixels / patches) for pixels, patches in zip(size, grid, strict=True)]
    below, right = (s * patches - n for s, patches, n in zip(sides, grid, size, strict=True))
    if below or right:  # a network rounds its grid up
        images = F.pad(images, (0, right, 0, below), mode="replicate")
    mean, square = F.avg_pool2d(images, sides), F.avg_pool2d(images.square(), sides)
    most, least = F.max_pool2d(images, sides), -F.max_pool2d(-images, sides)
    level, around_square = ring_means(torch.cat([mean, square], 1), sides).split(1, 1)
    deviation = (around_square - level.square()).clamp_min(0).sqrt() + ROUNDING
    peak = ((most - level) / deviation).clamp_min(0).log1p()
    power = (square - 2 * level * mean + level.square()).clamp_min(0) / deviation.square()
    spread = (square - mean.square()).clamp_min(0).sqrt()
    return torch.cat([mean, most, least, spread, peak, power.log1p()], 1)


def ring_means(
    cells: Float[Tensor, "*batch row column"], sides: Sequence[int]
) -> Float[Tensor, "*batch row column"]:
    """The mean over the ring around each cell of ``sides`` pixels; only cells inside the image count.

    In an image whose shorter side is less than twice the guard, the guard is half of that side.
    """
    grid = cells.shape[-2:]
    guard = min(GUARD, *(patches * side // 2 for patches, side in zip(grid, sides, strict=True)))
    total, count = torch.zeros_like(cells), torch.zeros(grid, device=cells.device)
    for sign, width in ((1, guard * OUTER / GUARD), (-1, guard)):
        rows, columns = (_band(n, width / side / 2).to(cells) for n, side in zip(grid, sides, strict=True))
        total = total + sign * (rows @ cells @ columns)
        count = count + sign * rows.sum(1)[:, None] * columns.sum(1)
    return total / count


def _band(cells: int, reach: float) -> Float[Tensor, "cell cell"]:
    """1 where two cells of a line are at most ``reach`` apart."""
    place = torch.arange(cells)
    return ((place - place[:, None]).abs() <= reach).float()
