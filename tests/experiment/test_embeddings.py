"""Embeddings come back bit for bit, or are known not to be there."""

import os

import numpy as np
import pytest
import torch

from padim_ace.experiment import embeddings
from padim_ace.experiment.embeddings import EmbeddingStore

PLACES, FEATURES = (4, 16), (3, 2)
BYTES = 4 * (4 * 3 + 16 * 2)


def embedding(images, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p, images, f, generator=generator) for p, f in zip(PLACES, FEATURES, strict=True)]


def equal(found, expected):
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_embeddings_come_back_in_any_order(tmp_path):
    store = EmbeddingStore(12, tmp_path)
    first, second = embedding(3), embedding(2, seed=1)
    store.add(np.array([7, 2, 9]), first, np.array([True, False, True]))
    store.add(np.array([4, 5]), second, np.array([True, True]))
    assert [row for row in range(12) if row in store] == [4, 5, 7, 9]
    found = store.read(np.array([5, 9, 7]))
    assert equal(
        found, [torch.stack([b[:, 1], a[:, 2], a[:, 0]], 1) for a, b in zip(first, second, strict=True)]
    )
    with pytest.raises(KeyError):
        store.read(np.array([2]))
    assert not list(tmp_path.iterdir())  # the file has no name


def test_what_does_not_fit_is_left_out(monkeypatch):
    monkeypatch.setattr(embeddings, "LIMIT", 3 * BYTES + 1)
    store = EmbeddingStore(6)
    batch = embedding(2)
    for rows in ([0, 1], [2, 3], [4, 5]):
        store.add(np.array(rows), batch, np.array([True, True]))
    assert [row for row in range(6) if row in store] == [0, 1, 2]
    assert equal(store.read(np.array([2])), [stage[:, :1] for stage in batch])


def test_a_full_disk_is_no_error(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = EmbeddingStore(6)
    store.add(np.array([0, 1]), embedding(2), np.array([True, True]))
    assert 0 not in store and 1 not in store
