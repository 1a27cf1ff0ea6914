"""The straightforward target removal: scikit-learn's KMeans and SciPy, step by step as the reference does it.

Slow and obvious on purpose: the tests check `data_prep.target_removal` against it, the benchmark times it.
"""

import numpy as np
from scipy import ndimage
from sklearn.cluster import KMeans


def ellipse(size: int) -> np.ndarray:
    """OpenCV's elliptic structuring element, which the reference uses, as a bool array [size, size]."""
    radius = size // 2
    dy = np.arange(size) - radius
    half_width = np.rint(np.sqrt(np.maximum(radius**2 - dy**2, 0))).astype(int)
    dx = np.arange(size) - radius
    return np.abs(dx)[None, :] <= half_width[:, None]


def segment(
    image: np.ndarray, clusters: int, sigma: float, closing: int, shadow: bool, **kmeans: float
) -> np.ndarray:
    """Target (or shadow): KMeans on the smoothed chip, closing, largest component."""
    smooth = ndimage.gaussian_filter(image.astype(float), sigma)
    options = {"n_init": 5, "max_iter": 100, "random_state": 0} | kmeans
    model = KMeans(n_clusters=clusters, **options).fit(smooth.reshape(-1, 1))
    darkest = (model.labels_ == np.argmin(model.cluster_centers_[:, 0])).reshape(image.shape)
    mask = darkest if shadow else ~darkest
    if closing:  # pixels beyond the border count for neither step: 0 for the dilation, 1 for the erosion
        element = ellipse(closing)
        mask = ndimage.binary_dilation(mask, element[::-1, ::-1], origin=-1 + closing % 2)
        mask = ndimage.binary_erosion(mask, element, border_value=1)
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def grow(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur above 0.15."""
    return ndimage.gaussian_filter(mask.astype(float), sigma) > 0.15


def fill(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Masked pixels drawn from the others."""
    filled = image.copy()
    filled[mask] = rng.choice(image[~mask], size=np.count_nonzero(mask))
    return filled


def remove(image: np.ndarray, rng: np.random.Generator, **kmeans: float) -> tuple[np.ndarray, np.ndarray]:
    """Background chip and mask of an 8-bit chip [row, column]; `kmeans` are further arguments of KMeans."""
    target = grow(segment(image, 2, 4.0, 50, shadow=False, **kmeans), 13.0)
    without_target = fill(image, target, rng)
    shadow = grow(segment(without_target, 5, 10.0, 0, shadow=True, **kmeans), 10.0)
    return fill(without_target, shadow, rng), target | shadow
