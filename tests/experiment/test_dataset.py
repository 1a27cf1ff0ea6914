import cv2
import numpy as np
import pytest
import torch
from fakes.prepared import write_prepared
from torchvision.transforms import v2

from data_prep import DataError
from padim_ace.experiment.dataset import PreparedDataset, batches


@pytest.fixture
def dataset(tmp_path):
    return PreparedDataset.open(write_prepared(tmp_path / "fake", images=40))


def test_roles(dataset):
    roles = dataset.draw_roles(3, "paper")
    normal = ~dataset.anomalous
    assert [(roles[normal] == r).sum() for r in ("train", "validation", "test", "signature")] == [32, 4, 4, 0]
    assert [(roles[~normal] == r).sum() for r in ("train", "validation", "test", "signature")] == [
        0,
        10,
        10,
        20,
    ]
    released = dataset.manifest["split"].to_numpy()
    assert set(released[roles == "signature"]) == {"train"}
    assert np.array_equal(roles, dataset.draw_roles(3, "paper"))
    assert not np.array_equal(roles, dataset.draw_roles(4, "paper"))


def test_images_are_resized_as_anomalib_does(dataset):
    raw = cv2.imread(str(dataset.root / dataset.manifest["path"][0]), cv2.IMREAD_GRAYSCALE)
    for size in ((32, 32), (64, 80)):
        resize = v2.Resize(size, antialias=True)
        expected = resize(torch.from_numpy(raw).float()[None] / 255)
        torch.testing.assert_close(dataset.image(0, size), expected)
    assert torch.equal(dataset.image(0, raw.shape), torch.from_numpy(raw).float()[None] / 255)


def test_masks(dataset):
    anomalous = int(np.flatnonzero(dataset.anomalous)[0])
    assert dataset.mask(anomalous, (48, 48)).sum() == 80
    assert dataset.mask(anomalous, (96, 96)).sum() == 320
    assert not dataset.mask(int(np.flatnonzero(~dataset.anomalous)[0]), (48, 48)).any()


def test_batches_keep_the_order(dataset):
    index = np.random.default_rng(0).permutation(len(dataset))[:23]
    found = list(batches(dataset, index, (24, 24), 5, masks=True))
    assert [len(b.index) for b in found] == [5, 5, 5, 5, 3]
    assert np.array_equal(np.concatenate([b.index for b in found]), index)
    for batch in found:
        for row, image, mask in zip(batch.index.tolist(), batch.images, batch.masks, strict=True):
            assert torch.equal(image, dataset.image(row, (24, 24)))
            assert torch.equal(mask, dataset.mask(row, (24, 24)))
    assert not list(batches(dataset, [], (24, 24), 5))


def test_images_that_the_caller_knows_are_not_decoded(dataset):
    index = np.arange(len(dataset))
    known = {1, 2, 6}
    for batch in batches(dataset, index, (24, 24), 4, masks=True, known=known):
        kept = [i for i in batch.index.tolist() if i in known]
        others = batch.index.tolist()[len(kept) :]
        assert not known & set(others) and len(batch.images) == len(others)
        for image, row in zip(batch.images, others, strict=True):
            assert torch.equal(image, dataset.image(row, (24, 24)))
        for mask, row in zip(batch.masks, batch.index.tolist(), strict=True):
            assert torch.equal(mask, dataset.mask(row, (24, 24)))


def test_errors(dataset, tmp_path):
    with pytest.raises(DataError, match="manifest.csv: expected the manifest of a prepared dataset"):
        PreparedDataset.open(tmp_path / "nowhere")
    path = dataset.root / dataset.manifest["path"][0]
    path.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=f"{path}: .*does not decode"):
        dataset.image(0, (8, 8))
    path.unlink()
    with pytest.raises(DataError, match="found no file"):
        list(batches(dataset, [0], (8, 8), 1))
    with pytest.raises(DataError, match=f"{path}: expected a file of the manifest"):
        PreparedDataset.open(dataset.root)
    dataset.manifest.loc[dataset.anomalous, "mask"] = ""
    assert not dataset.has_masks
    with pytest.raises(DataError, match="expected a mask"):
        dataset.mask(int(np.flatnonzero(dataset.anomalous)[0]), (8, 8))
    dataset.manifest["split"] = "train"
    with pytest.raises(DataError, match="expected anomalous images for validation, found none"):
        dataset.draw_roles(0, "paper")
