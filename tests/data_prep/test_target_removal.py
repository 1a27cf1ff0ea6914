"""The k-means removal, against scikit-learn and SciPy."""

import itertools

import numpy as np
import pytest
import straightforward
from fakes.releases import chip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.cluster import KMeans

from data_prep import DataError
from data_prep import target_removal as removal


def inertia(x, centres):
    return np.min((x[:, None] - np.asarray(centres)[None]) ** 2, axis=1).sum()


@given(
    values=st.lists(st.integers(0, 30), min_size=6, max_size=14, unique=True),
    clusters=st.integers(2, 4),
)
@settings(max_examples=60, deadline=None)
def test_kmeans_1d_finds_the_best_of_all_clusterings(values, clusters):
    x = np.array(sorted(values), float)
    cuts = itertools.combinations(range(1, len(x)), clusters - 1)
    best = min(sum(part.var() * len(part) for part in np.split(x, cut)) for cut in cuts)
    assert inertia(x, removal.kmeans_1d(x, clusters)) == pytest.approx(best, abs=1e-9)


def test_kmeans_1d_is_not_worse_than_scikit_learn():
    smooth = removal.gaussian_blur(chip(3), 10).ravel().astype(float)
    ours = inertia(smooth, removal.kmeans_1d(smooth, 5))
    theirs = KMeans(5, n_init=10, tol=0, max_iter=1000, random_state=0).fit(smooth[:, None]).inertia_
    assert ours <= theirs * 1.0005


def test_kmeans_1d_does_not_depend_on_order():
    x = np.random.default_rng(0).gamma(2.0, size=500)
    np.testing.assert_array_equal(removal.kmeans_1d(x, 3), removal.kmeans_1d(x[::-1], 3))


@pytest.mark.parametrize("sigma", [4.0, 10.0, 13.0])
def test_gaussian_blur_is_that_of_scipy(sigma):
    image = chip(1)[:90]
    np.testing.assert_allclose(
        removal.gaussian_blur(image, sigma), ndimage.gaussian_filter(image.astype(float), sigma), atol=2e-4
    )


def test_masks_agree_with_the_straightforward_pipeline():
    overlaps = []
    for seed in range(12):
        image = chip(seed)
        _, ours, _ = removal.remove_by_kmeans(image, removal.image_rng(0, "a"))
        _, theirs = straightforward.remove(image, removal.image_rng(0, "a"))
        overlaps.append(np.sum(ours & theirs) / np.sum(ours | theirs))
    assert np.mean(overlaps) >= 0.99


def test_the_ellipse_of_the_straightforward_pipeline_is_that_of_opencv():
    import cv2

    for size in (7, 50):
        np.testing.assert_array_equal(
            straightforward.ellipse(size), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)) > 0
        )


def test_target_and_shadow_are_found_and_gone():
    rng = np.random.default_rng(0)
    image = rng.integers(20, 40, (128, 128)).astype(np.uint8)
    image[60:75, 55:75] = 250
    image[35:60, 55:75] = 1
    filled, mask, vehicle = removal.remove_by_kmeans(image, rng)
    assert vehicle[62:73, 57:73].all() and not vehicle[35:55].any() and not (vehicle & ~mask).any()
    assert vehicle.sum() < 2 * 15 * 20 < mask.sum()
    assert mask[60:75, 55:75].all() and mask[38:58, 58:72].all()
    assert not mask[:, :15].any() and mask.mean() < 0.4
    assert filled.max() < 40 and (filled == 1).mean() < 0.002
    np.testing.assert_array_equal(filled[~mask], image[~mask])


def test_fill_draws_from_the_background_only():
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)
    mask = image >= 50
    filled = removal.fill(image, mask, np.random.default_rng(0))
    assert filled.max() < 50 and len(np.unique(filled[mask])) > 20
    np.testing.assert_array_equal(image, np.arange(100).reshape(10, 10))  # the input is left alone


def test_largest_component_is_eight_connected():
    mask = np.zeros((9, 9), bool)
    mask[[0, 1, 2], [0, 1, 2]] = True
    mask[5, 5:7] = True
    assert removal.largest_component(mask).sum() == 3
    assert not removal.largest_component(np.zeros((4, 4), bool)).any()


def test_remove_by_mask_dilates():
    image = np.full((60, 60), 10, np.uint8)
    image[28:32, 28:32] = 200
    image[30, 45] = 99  # within 35 / 2 px of the mask: filled; the background is 10 everywhere else
    filled = removal.remove_by_mask(image, image == 200, np.random.default_rng(0), 35)
    assert (filled == 10).all()
    kept = removal.remove_by_mask(image, image == 200, np.random.default_rng(1), 21)
    assert kept[30, 45] == 99


def test_image_rng_depends_on_seed_and_name_only():
    draw = {key: removal.image_rng(*key).integers(1 << 60) for key in [(0, "a"), (1, "a"), (0, "b")]}
    assert len(set(draw.values())) == 3
    assert draw[0, "a"] == removal.image_rng(0, "a").integers(1 << 60)


def test_images_that_no_target_can_be_removed_from():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="2 grey levels.*found 9 in all pixels"):
        removal.remove_by_kmeans(np.full((64, 64), 9, np.uint8), rng)
    with pytest.raises(DataError, match="found 2"):
        removal.kmeans_1d(np.repeat([1.0, 2.0], 50), 3)
    with pytest.raises(DataError, match="background pixels"):
        removal.fill(np.zeros((4, 4), np.uint8), np.ones((4, 4), bool), rng)
