"""Learnt signatures: against exhaustive search, scikit-learn, and clutter with a planted direction."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from padim_ace.detect import signature
from padim_ace.detect.signature import PENALTY, candidates, lace, learn, logistic, miace

SAMPLES = 40


def bags(targets=12, clutter=20, patches=5, features=6, shift=1.5):
    """Of each target image one patch in five is moved."""
    made = torch.randn(targets, patches, features, dtype=torch.float64) * 3
    made[:, -1, :2] += 3 * shift
    return made, torch.randn(clutter, patches, features, dtype=torch.float64) * 3


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_miace_is_the_alternation_from_the_best_start(seed):
    torch.manual_seed(seed)
    targets, clutter = bags()
    y, mean = unit(targets.numpy()), unit(clutter.numpy()).mean((0, 1))

    def objective(s):
        return np.mean([max(s @ patch for patch in bag) for bag in y]) - s @ mean

    start = max((bag[0] for bag in y), key=objective)
    s, reached = start, -np.inf
    while True:
        moved = unit(np.mean([max(bag, key=lambda patch: s @ patch) for bag in y], 0) - mean)
        if objective(moved) <= reached + 1e-15:
            break
        s, reached = moved, objective(moved)
    found = miace(targets, clutter, SAMPLES).numpy()
    np.testing.assert_allclose(found, s, atol=1e-12)
    assert all(objective(found) >= objective(bag[0]) for bag in y)


def test_miace_reaches_the_best_of_all_choices_of_patches():
    """Of each choice of one patch per image, the direction is known: the best of 3^6 choices."""
    targets, clutter = bags(targets=6, patches=3, shift=4)
    targets = targets.flip(1)  # farthest first
    y, mean = unit(targets.numpy()), unit(clutter.numpy()).mean((0, 1))
    choices = np.stack(np.meshgrid(*[range(3)] * 6), -1).reshape(-1, 6)
    best = max(np.linalg.norm(y[np.arange(6), choice].mean(0) - mean) for choice in choices)
    found = miace(targets, clutter, SAMPLES).numpy()
    assert (y @ found).max(1).mean() - found @ mean == pytest.approx(best)


def scikit(targets, clutter):
    """The direction of a regression on one patch a bag: scikit-learn's C is the weight of the summed loss."""
    x = np.concatenate([targets, clutter])
    labels = np.arange(len(x)) < len(targets)
    fitted = LogisticRegression(C=1 / (PENALTY * len(x)), class_weight="balanced", tol=1e-10, max_iter=9999)
    return unit(fitted.fit(x, labels).coef_[0])


def test_with_one_patch_a_bag_lace_is_logistic_regression():
    targets, clutter = bags(patches=1)
    features = [(y / (SAMPLES + y.square().sum(-1, True)).sqrt())[:, 0].numpy() for y in (targets, clutter)]
    np.testing.assert_allclose(lace(targets, clutter, SAMPLES), scikit(*features), atol=1e-4)


def test_logistic_is_that_of_all_patches():
    targets, clutter = bags(shift=0.5)
    flat = [y.flatten(0, 1).numpy() / SAMPLES**0.5 for y in (targets, clutter)]
    np.testing.assert_allclose(logistic(targets, clutter, SAMPLES), scikit(*flat), atol=1e-4)


@pytest.mark.parametrize("name", ["lace", "miace", "logistic"])
def test_a_planted_direction_is_found_and_bits_are_the_same_again(name):
    """One patch in sixteen is a target, and in half of the images clutter is farther, as in normal images."""
    planted = torch.nn.functional.normalize(torch.randn(30), dim=0)
    targets, clutter = torch.randn(40, 16, 30), torch.randn(60, 16, 30)
    for images in (targets, clutter):
        images[:, :4, 0] += 12 * torch.rand(len(images), 4)
    targets[:, 15] += 10 * planted
    order = targets.square().sum(-1).argsort(1, descending=True)
    targets = targets.take_along_dim(order[..., None], 1)
    found = learn(name, targets, clutter, 500)
    assert torch.equal(found, learn(name, targets, clutter, 500))
    assert found.norm() == pytest.approx(1) and found.dtype == torch.float64
    assert found @ planted.double() > (0.6 if name == "logistic" else 0.85)


def test_candidates_are_the_farthest_patches_of_each_image(monkeypatch):
    monkeypatch.setattr(signature, "CANDIDATES", 3)
    coarse, fine = torch.randn(2, 4, 2), torch.randn(8, 4, 3)
    whole = torch.cat([coarse.repeat_interleave(4, 0), fine], -1)
    energy = whole.square().sum(-1)
    found = candidates([coarse, fine], energy)
    for image in range(4):
        order = energy[:, image].argsort(descending=True)[:3]
        assert torch.equal(found[image], whole[order, image])
    with pytest.raises(ValueError, match="expected 3 patches or more, found 2; give larger images"):
        candidates([coarse], energy[::4])


def test_nothing_to_learn_from():
    targets, clutter = bags()
    with pytest.raises(ValueError, match="expected anomalous images with targets, found none"):
        learn("lace", targets[:0], clutter, SAMPLES)
    with pytest.raises(ValueError, match="clutter: expected normal images, found none"):
        learn("lace", targets, clutter[:0], SAMPLES)
