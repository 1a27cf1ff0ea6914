"""Planted classes are told apart; the model says which, and its state brings the names."""

import pytest
import torch

from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.classes import class_scores, class_signatures, image_class
from padim_ace.detect.detector import RECOMMENDED
from padim_ace.detect.model import AceModel

SIZE = (64, 64)


def bags(images, along=None, generator=None):
    """White noise of 16 patches, in each image 6 of them moved along an axis."""
    found = torch.randn(images, 16, 12, generator=generator)
    if along is not None:
        found[:, :6, along] += 8
    return found


def test_planted_directions_are_found_and_name_images_by_their_best_patches():
    targets = torch.cat([bags(20, 7), bags(20, 3), bags(20, 5)])
    names = ["b"] * 20 + ["a"] * 20 + ["c"] * 20
    found, offsets = class_signatures(targets, names, bags(20), samples=500)
    assert found.argmax(1).tolist() == [3, 7, 5]  # in the order of the names
    assert torch.equal(found.norm(dim=1).round(decimals=12), torch.ones(3).double())
    judged = torch.cat([bags(30, 3), bags(30, 7), bags(30, 5)]).double()
    energy = judged.square().sum(-1).T
    right = torch.arange(3).repeat_interleave(30)
    scores = class_scores((judged @ found.T).transpose(0, 1), energy, 500, offsets)
    said = image_class(scores, energy)
    assert (said == right).float().mean() > 0.95
    loud = (
        torch.zeros(40, 90, 3).index_fill(2, torch.tensor([2]), 9).double()
    )  # of patches near the background
    assert torch.equal(image_class(torch.cat([scores, loud]), torch.cat([energy, 0 * loud[..., 0]])), said)


def test_what_all_targets_share_does_not_make_one_class_of_them():
    """A part along one axis in all targets; one class has more of it than of its own."""
    targets = [bags(20, along) for along in (3, 7, 5)]
    for of in targets:
        of[:, :6, 0] += 20
    targets[2][:, :6, 0] += 10
    found, offsets = class_signatures(
        torch.cat(targets), [n for n in "abc" for _ in range(20)], bags(20), 500
    )
    white = torch.cat(targets).double()
    energy = white.square().sum(-1).T
    scores = class_scores((white @ found.T).transpose(0, 1), energy, 500, offsets)
    torch.testing.assert_close(scores.mean((0, 1)), torch.zeros(3).double(), atol=1e-12, rtol=0)
    assert (image_class(scores, energy) == torch.arange(3).repeat_interleave(20)).float().mean() > 0.9


def images(kind, count, seed):
    """Speckle with a square that is brighter, or with one that is striped."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.rand(count, 1, *SIZE, generator=generator) * 0.3
    if kind == "bright":
        found[:, :, 24:40, 24:40] += 0.6
    if kind == "striped":
        found[:, :, 24:40, 24:40:4] += 0.6
    return found


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = AceModel(load_backbone("resnet18", "random", SIZE), RECOMMENDED, features=20, image_size=SIZE)
    made.update(images("", 24, 0))
    kinds = ("striped", "bright")
    made.fit([(images(kind, 8, 1), None, [kind] * 8) for kind in kinds])
    return made


def test_the_model_says_which_class_and_where(model):
    assert model.classes == ["bright", "striped"]
    for number, kind in enumerate(model.classes):
        scored = model(images(kind, 8, 2))
        assert (scored.pred_class == number).all()
        assert scored.class_map.shape == (8, 16, 16)
        inside = scored.class_map[:, 7:9, 7:9]
        assert (inside == number).float().mean() > 0.8


def test_the_state_brings_the_classes_and_a_fit_without_names_has_none(model):
    torch.manual_seed(1)
    other = AceModel(load_backbone("resnet18", "random", SIZE), RECOMMENDED, features=20, image_size=SIZE)
    other.load_state_dict(model.state_dict())
    assert other.classes == model.classes
    seen = images("bright", 2, 3)
    for mine, theirs in zip(model(seen), other(seen), strict=True):
        assert torch.equal(mine, theirs)
    other.update(images("", 24, 0))
    other.fit([(images("bright", 8, 1), None, ["one"] * 8)])
    assert other.classes == [] and other(seen).pred_class is None
    torch.testing.assert_close(other(seen).anomaly_map.shape, model(seen).anomaly_map.shape)
