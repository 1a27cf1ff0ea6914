"""Target removal: from a chip with a target to a mask and a chip of background alone.

The recipe of the reference code for MSTAR [Chauvin2025]_ (``book/prepared_format.md`` tells it), as free
functions. Clustering grey levels is a one-dimensional problem: `kmeans_1d` solves it exactly, with nothing
random in it, many times faster than a general k-means. The mask is target or shadow; the vehicle is the
target's largest component, before it is grown.

.. [Chauvin2025] Chauvin et al., "Benchmarking suite for synthetic aperture radar imagery anomaly detection
   (SARIAD) algorithms", Proc. SPIE 13456 (2025).
"""

import hashlib
from typing import Annotated

import cv2
import numpy as np
from jaxtyping import Float, Shaped
from pydantic import Field

from data_prep.dataset import Parameters
from data_prep.errors import DataError, NoBackground
from data_prep.images import Grey, Mask

MOST_PIXELS = 2**24  # of an image that k-means may look at: it sorts all pixels, some 40 bytes each
Sigma = Annotated[float, Field(gt=0, le=200)]


class KMeansRemoval(Parameters):
    """Parameters of the k-means removal; lengths in pixels. The defaults are the reference's."""

    target_sigma: Sigma = Field(default=4.0, description="smoothing before the target is looked for, px")
    target_clusters: int = Field(default=2, ge=2, le=16, description="grey-level clusters, target's")
    closing: int = Field(default=50, ge=1, le=501, description="ellipse that closes the target, px")
    target_growth: Sigma = Field(default=13.0, description="blur that grows the target's mask, px")
    shadow_sigma: Sigma = Field(default=10.0, description="smoothing before the shadow is looked for, px")
    shadow_clusters: int = Field(default=5, ge=2, le=16, description="grey-level clusters, shadow's")
    shadow_growth: Sigma = Field(default=10.0, description="blur that grows the shadow's mask, px")
    growth_threshold: float = Field(default=0.15, gt=0, lt=1, description="level of the blur at its edge")


def image_rng(seed: int, name: str) -> np.random.Generator:
    """Random generator of one image: it depends on the seed and the image's name, on nothing else."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def gaussian_blur(image: Shaped[np.ndarray, "row column"], sigma: float) -> Float[np.ndarray, "row column"]:
    """Gaussian blur in float32, cut at 4 sigma, borders mirrored: `scipy.ndimage.gaussian_filter`, faster."""
    size = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image.astype(np.float32), (size, size), sigma, borderType=cv2.BORDER_REFLECT)


def kmeans_1d(values: Float[np.ndarray, " value"], clusters: int, bins: int = 128) -> Float[np.ndarray, " k"]:
    """Centres, ascending, of the k-means clustering of `values` on a line; a DataError if these are too few.

    In one dimension clusters are intervals, so the best ones are found by dynamic programming over the `bins`
    of a histogram: with D_k(j) the least sum of squares of the first j bins in k intervals, D_k(j) = min_i
    D_{k-1}(i) + cost(i, j). Lloyd's iterations on the sorted values then remove what the histogram rounded.
    """
    x = np.sort(values.astype(np.float64, copy=False))
    low, high = x[0], x[-1]
    if not high > low:
        raise DataError("image", f"{clusters} grey levels for k-means", f"{low:g} in all pixels", "remove it")
    edges = np.searchsorted(x, np.linspace(low, high, bins + 1)[1:-1], side="right")
    ends = np.unique(np.concatenate([[0], edges, [len(x)]]))  # ends[j]: pixels in the first j non-empty bins
    if len(ends) - 1 < clusters:
        raise DataError("image", f"{clusters} grey levels for k-means", f"{len(ends) - 1}", "remove it")
    total = np.concatenate([[0.0], np.cumsum(x)])
    # An interval's sum of squares is Σx² - (Σx)²/n, and Σx² is the same for all clusterings: maximise that.
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = (total[ends] - total[ends][:, None]) ** 2 / (ends - ends[:, None])  # gain[i, j]: bins i..j-1
    gain[np.tril_indices(len(ends))] = -np.inf
    best, back = gain[0], []
    for _ in range(clusters - 1):
        through = best[:, None] + gain  # through[i, j]: the last interval is bins i..j-1
        back.append(np.argmax(through, axis=0))
        best = np.max(through, axis=0)
    cuts, j = [], len(ends) - 1
    for choice in reversed(back):
        j = choice[j]
        cuts.append(ends[j])
    return _lloyd(x, total, np.array(cuts[::-1]))


def _lloyd(x: np.ndarray, total: np.ndarray, cuts: np.ndarray, iterations: int = 100) -> np.ndarray:
    """Lloyd's iterations on sorted values `x`; `cuts` are where the second and later clusters begin."""
    for _ in range(iterations):
        ends = np.concatenate([[0], cuts, [len(x)]])
        centres = np.diff(total[ends]) / np.diff(ends)
        moved = np.searchsorted(x, (centres[1:] + centres[:-1]) / 2, side="right")
        if np.array_equal(moved, cuts):
            break
        cuts = moved
    return centres


def largest_component(mask: Mask) -> Mask:
    """The largest 8-connected component of a mask (the first of equals, in reading order)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA]) if len(stats) > 1 else np.zeros_like(mask)


def grow(mask: Mask, sigma: float, threshold: float) -> Mask:
    """Smooth and grow a mask: its Gaussian blur above `threshold`."""
    return gaussian_blur(mask, sigma) > threshold


def vehicle_mask(image: Grey, p: KMeansRemoval) -> Mask:
    """The bright target: brighter cluster, closed, largest component."""
    smooth = gaussian_blur(image, p.target_sigma)
    darkest, next_one = kmeans_1d(smooth.ravel(), p.target_clusters)[:2]
    mask = smooth > (darkest + next_one) / 2
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (p.closing, p.closing))
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, ellipse).astype(bool)
    return largest_component(mask)


def shadow_mask(image: Grey, p: KMeansRemoval) -> Mask:
    """The radar shadow, on a chip whose target is removed: darkest cluster, largest component, grown."""
    smooth = gaussian_blur(image, p.shadow_sigma)
    darkest, next_one = kmeans_1d(smooth.ravel(), p.shadow_clusters)[:2]
    return grow(largest_component(smooth <= (darkest + next_one) / 2), p.shadow_growth, p.growth_threshold)


def fill(
    image: Shaped[np.ndarray, "row column"], mask: Mask, rng: np.random.Generator, valid: Mask | None = None
) -> Shaped[np.ndarray, "row column"]:
    """Copy of `image` whose masked pixels are drawn, with replacement, from the others (the valid of them).

    A mask over the whole image is an error: NoBackground.
    """
    background = image[~mask if valid is None else ~mask & valid]
    if not len(background):
        raise NoBackground(
            "image", "background pixels to fill the target with", "a mask over the whole image", "remove it"
        )
    filled = image.copy()
    filled[mask] = rng.choice(background, size=np.count_nonzero(mask))
    return filled


def remove_by_kmeans(
    image: Grey, rng: np.random.Generator, p: KMeansRemoval | None = None, valid: Mask | None = None
) -> tuple[Grey, Mask, Mask]:
    """Background chip, mask (target or shadow) and vehicle of a chip, by the reference's recipe.

    Pixels without data, where `valid` says so, look like background to the clustering and stay as they are. A
    chip that is constant or too large is a DataError.
    """
    p = p or KMeansRemoval()
    if image.size > MOST_PIXELS:
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise DataError("image", f"at most {MOST_PIXELS} pixels for k-means", found, "cut it, or give masks")
    seen = image if valid is None else fill(image, ~valid, rng)
    vehicle = vehicle_mask(seen, p)
    target = grow(vehicle, p.target_growth, p.growth_threshold)
    without_target = fill(seen, target, rng)
    shadow = shadow_mask(without_target, p)
    background, mask = fill(without_target, shadow, rng), target | shadow
    if valid is not None:
        background, mask = np.where(valid, background, image), mask & valid
    return background, mask, vehicle & mask


def remove_by_mask(
    image: Grey, mask: Mask, rng: np.random.Generator, dilation: int = 35, valid: Mask | None = None
) -> Grey:
    """Background image from a known mask: dilated by a `dilation` px square, then filled."""
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((dilation, dilation), np.uint8)).astype(bool)
    return fill(image, grown if valid is None else grown & valid, rng, valid)
