"""Physics of a simulated SAR image: textured clutter, a point spread function, looks, noise.

The complex image is a convolution, field = (clutter + scatterers) * point spread function + noise, with
clutter circular Gaussian of local power sigma0 x texture. With a gamma texture its intensity is
K-distributed [Jakeman1976]_, and the point spread function, being wider than a pixel, correlates the speckle
and gives bright scatterers their sidelobes, as it does in a real image. Looks are averaged in power.

.. [Jakeman1976] Jakeman and Pusey, "A model for non-Rayleigh sea echo", IEEE Trans. Antennas Propag. 24
   (1976) 806-814.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import fft, ndimage, special
from scipy.signal import windows


@dataclass(frozen=True)
class System:
    """A radar's image: how wide its response is, how it is weighted, how many looks, how much noise."""

    oversampling: float = 1.5  # resolution over pixel spacing
    sidelobe: float | None = 35.0  # Taylor weighting, dB under the peak; None: no weighting (sinc, -13 dB)
    looks: int = 1
    noise: float = 0.01  # noise power; clutter is near 1


#: Point scatterers: pixel coordinates and amplitudes (power 1 is the clutter of one pixel).
Scatterers = Float[np.ndarray, "row_column_amplitude point"]


def gaussian_field(
    shape: tuple[int, int], sigma: float | tuple[float, float], rng: np.random.Generator
) -> Float[np.ndarray, "row column"]:
    """Gaussian random field, mean 0, variance 1, smoothed by `sigma` (rows, columns) px, periodic."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


def gamma_texture(
    shape: tuple[int, int], order: float, sigma: float | tuple[float, float], rng: np.random.Generator
) -> Float[np.ndarray, "row column"]:
    """Gamma texture of mean 1 and shape `order` (the lower, the spikier), correlated over `sigma` px."""
    uniform = special.ndtr(gaussian_field(shape, sigma, rng))
    return special.gammaincinv(order, np.clip(uniform, 1e-9, 1 - 1e-9)) / order


def transfer_function(shape: tuple[int, int], system: System) -> Float[np.ndarray, "row column"]:
    """Transfer function over the FFT's frequencies: a weighted band, 1/oversampling wide, of unit gain."""
    sides = []
    for n in shape:
        band = 2 * int(n / system.oversampling / 2) + 1
        sll = system.sidelobe
        weight = np.ones(band) if sll is None else windows.taylor(band, nbar=4, sll=sll)
        side = np.zeros(n)
        side[: band // 2 + 1] = weight[band // 2 :]
        side[-(band // 2) :] = weight[: band // 2]
        sides.append(side)
    response = np.outer(*sides)
    return response / np.sqrt(np.mean(response**2))


def intensity(
    sigma0: Float[np.ndarray, "row column"], points: Scatterers, system: System, rng: np.random.Generator
) -> Float[np.ndarray, "row column"]:
    """Multi-look intensity of a scene with clutter power `sigma0` and point scatterers.

    Scatterers lie between pixels (bilinear weights) and have a random phase in each look.
    """
    response = transfer_function(sigma0.shape, system)
    power = np.zeros(sigma0.shape)
    for _ in range(system.looks):
        field = np.sqrt(sigma0) * _circular(sigma0.shape, rng)
        _add(field, points, rng)
        field = fft.ifft2(fft.fft2(field) * response) + np.sqrt(system.noise) * _circular(sigma0.shape, rng)
        power += np.abs(field) ** 2
    return power / system.looks


def _circular(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Circular complex Gaussian numbers of unit power."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def _add(field: np.ndarray, points: Scatterers, rng: np.random.Generator) -> None:
    row, column, amplitude = points
    value = amplitude * np.exp(2j * np.pi * rng.random(len(amplitude)))
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    down, right = row - top, column - left
    for dr, wr in ((0, 1 - down), (1, down)):
        for dc, wc in ((0, 1 - right), (1, right)):
            row, column = top + dr, left + dc
            inside = (row >= 0) & (row < field.shape[0]) & (column >= 0) & (column < field.shape[1])
            np.add.at(field, (row[inside], column[inside]), (value * wr * wc)[inside])
