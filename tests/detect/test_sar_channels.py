"""Channels of the image itself, against loops over cells and their rings' pixels in float64."""

import numpy as np
import pytest
import torch

from padim_ace.detect import sar_channels as module
from padim_ace.detect.sar_channels import sar_channels


def speckle(*size):
    return (torch.rand(2, 1, *size, dtype=torch.float64).log() * -0.08).clamp(0, 1)


def naive(image, grid):
    """Of one image: [channel, row, column]."""
    sides = [-(-n // cells) for n, cells in zip(image.shape, grid, strict=True)]
    beyond = [(0, s * cells - n) for s, cells, n in zip(sides, grid, image.shape, strict=True)]
    image = np.pad(image, beyond, mode="edge")
    guard = min(64, *(n // 2 for n in image.shape))
    places = [np.arange(n) // s for n, s in zip(image.shape, sides, strict=True)]
    result = np.empty((6, *grid))
    for cell in np.ndindex(*grid):
        rows, columns = ((p - at) * s for p, at, s in zip(places, cell, sides, strict=True))
        apart = np.maximum(
            abs(rows)[:, None], abs(columns)
        )  # in pixels, from the centre of a cell to another's
        x, ring = image[apart == 0], image[(apart > guard / 2) & (apart <= 0.75 * guard)]
        mean, deviation = ring.mean(), ring.std() + 2 / 255
        peak, power = max(x.max() - mean, 0) / deviation, ((x - mean) ** 2).mean() / deviation**2
        result[:, *cell] = x.mean(), x.max(), x.min(), x.std(), np.log(1 + peak), np.log(1 + power)
    return result


@pytest.mark.parametrize(
    ("size", "grid"), [((136, 150), (34, 38)), ((48, 64), (6, 8)), ((50, 33), (13, 9)), ((32, 32), (16, 8))]
)
def test_they_are_those_of_a_loop_over_pixels(size, grid):
    images = speckle(*size)
    expected = np.stack([naive(image.numpy(), grid) for image in images[:, 0]])
    np.testing.assert_allclose(sar_channels(images, grid), expected, atol=1e-6)
    np.testing.assert_allclose(sar_channels(images.float(), grid), expected, atol=1e-3)


def test_contrast_is_blind_to_gain_and_offset(monkeypatch):
    monkeypatch.setattr(module, "ROUNDING", 0.0)
    images = speckle(64, 96)
    plain, moved = (sar_channels(x, (16, 24)) for x in (images, 0.1 + 0.5 * images))
    torch.testing.assert_close(moved[:, 4:], plain[:, 4:])
    torch.testing.assert_close(moved[:, :3], 0.1 + 0.5 * plain[:, :3])
    torch.testing.assert_close(moved[:, 3], 0.5 * plain[:, 3])


def test_8_and_16_bits_are_the_same_up_to_rounding():
    images = speckle(64, 96)
    exact = sar_channels(images, (16, 24))
    for steps, greys, contrast in ((255, 2e-3, 0.05), (65535, 8e-6, 2e-4)):
        found = sar_channels((steps * images).round() / steps, (16, 24))
        torch.testing.assert_close(found[:, :3], exact[:, :3], atol=greys, rtol=0)
        torch.testing.assert_close(found[:, 3:], exact[:, 3:], atol=contrast, rtol=0)
