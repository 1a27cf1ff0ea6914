from dataclasses import replace

import oracles
import pytest
import torch

from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.embedding import Embedder, FeatureSubset, kept_features
from padim_ace.detect.pyramid import flatten
from padim_ace.detect.sar_channels import sar_channels


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (80, 72)])
def test_the_embedding_is_padims(size):
    """The last size has stages that do not divide, and is embedded on one grid."""
    backbone = load_backbone("resnet18", "random")
    embedder = Embedder(backbone, size)
    assert embedder.nested == (size != (80, 72))
    subset = FeatureSubset.draw(embedder.channels, 40, seed=1)
    images = torch.randn(3, 3, *size)
    with torch.inference_mode():
        found = embedder.to_raster(flatten(subset.select(embedder(images))))
        expected = oracles.embedding(backbone(images), subset.index(embedder.channels))
    torch.testing.assert_close(found.permute(0, 1, 2, 3), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (80, 72)])
def test_sar_channels_follow_the_networks_whoever_normalises(size):
    backbone = load_backbone("resnet18", "random")
    embedder, without = Embedder(backbone, size, sar=True), Embedder(backbone, size)
    subset = replace(plain := FeatureSubset.draw(embedder.channels, 40, seed=1), sar=True)
    images = torch.rand(3, 1, *size)
    with torch.inference_mode():
        found = [
            embedder.to_raster(flatten(subset.select(embedder.embed(given, normalise), torch.tensor([2, 0]))))
            for given, normalise in ((images, True), (backbone.normalise(images), False))
        ]
        network = embedder.to_raster(flatten(plain.select(without.embed(images))))
    expected = torch.cat([network, sar_channels(images, embedder.grid)], 1)[[2, 0]]
    for raster in found:
        torch.testing.assert_close(raster, expected, atol=1e-4, rtol=1e-4)


def test_kept_features():
    """Of ten of the network's, then four of grey levels, peak and power."""
    assert kept_features(16, "sar") is None
    network = list(range(10))
    expected = {"network": [], "grey": [14, 15], "peak": [10, 11, 12, 13, 15], "power": [10, 11, 12, 13, 14]}
    for left, kept in expected.items():
        channels = left if left == "network" else f"without_{left}"
        assert kept_features(16, channels).tolist() == network + kept


def test_subsets():
    channels = [64, 128, 256]
    subset = FeatureSubset.draw(channels, 100, seed=5)
    index = subset.index(channels)
    assert len(index.unique()) == 100 and index.max() < 448
    assert torch.equal(index, FeatureSubset.draw(channels, 100, seed=5).index(channels))
    assert not torch.equal(
        index.sort().values, FeatureSubset.draw(channels, 100, seed=6).index(channels).sort().values
    )
    assert torch.equal(index.sort().values, FeatureSubset.of(index, channels).index(channels).sort().values)
    with pytest.raises(ValueError, match="1 to 448 .*found 449"):
        FeatureSubset.draw(channels, 449, seed=0)


def test_images_of_a_batch_can_be_chosen():
    embedder = Embedder(load_backbone("resnet18", "random"), (32, 32))
    embedding = embedder(torch.randn(4, 3, 32, 32))
    subset = FeatureSubset.draw(embedder.channels, 20, seed=0)
    chosen = subset.select(embedding, torch.tensor([2, 0]))
    whole = subset.select(embedding)
    for a, b in zip(chosen, whole, strict=True):
        assert torch.equal(a, b[:, [2, 0]])


def test_a_mask_covers_parts_of_patches():
    embedder = Embedder(load_backbone("resnet18", "random"), (32, 32))
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, :3, :8] = True
    found = embedder.to_raster(embedder.covered(mask))[0]
    expected = torch.zeros(8, 8)
    expected[0, :2] = 0.75
    torch.testing.assert_close(found, expected)
