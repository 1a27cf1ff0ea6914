import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from fakes.prepared import write_prepared
from torchvision.transforms import v2

from data_prep import DATASETS, DataError, prepare
from data_prep.dataset import checked
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


def judged_apart(dataset, roles):
    """Whether no scene of an image that is judged has another role."""
    of_scene = pd.Series(roles).groupby(dataset.manifest["scene"].to_numpy()).agg(set)
    return all(len(found) == 1 or found <= {"train", "signature"} for found in of_scene)


def manifests(tmp_path):
    """Every dataset at hand, as the profiles prepare it: the roles need no more than its manifest."""
    settings = {"hrsid": {"tile_size": 200}}
    names = ["demo_vehicle", "demo_sea", "demo_harbour"]
    if folder := os.environ.get("PADIM_ACE_DATA"):
        names += [n for n, d in DATASETS.items() if d.folder and (Path(folder) / d.folder).is_dir()]
    for name in names:
        if "demo" in name:
            yield PreparedDataset.open(prepare(name, None, tmp_path / name))
            continue
        given = settings.get(name, {})
        parameters = checked(DATASETS[name].parameters, {**DATASETS[name].defaults, **given})
        items, _ = DATASETS[name].items(DATASETS[name].find(None, tmp_path), parameters)
        rows = [(i.scene or i.name, i.split, label) for i in items for label in ("anomalous", "normal")]
        yield PreparedDataset(tmp_path, pd.DataFrame(rows, columns=["scene", "split", "label"]))


def test_no_scene_that_is_judged_has_another_role(tmp_path):
    for dataset in manifests(tmp_path):
        scenes = dataset.manifest["scene"].to_numpy()
        for seed in range(10):
            roles = dataset.draw_roles(seed, "scenes")
            assert judged_apart(dataset, roles)
            for role, share in (("test", 0.1), ("validation", 0.1), ("train", 0.8)):
                found = len(set(scenes[(roles == role) | ((role == "train") & (roles == "signature"))]))
                assert found / len(set(scenes)) == pytest.approx(share, abs=0.03)
        assert not judged_apart(dataset, dataset.draw_roles(0, "paper")) or not dataset.has_twins


def test_scenes_are_dealt_within_each_split_of_the_release(dataset):
    """Forty scenes, half of them of the test split: two of each for the test and two for validation."""
    for seed in range(5):
        frame = dataset.manifest.assign(role=dataset.draw_roles(seed, "scenes"))
        counts = frame.groupby(["split", "label", "role"]).size()
        for split in ("train", "test"):
            assert counts[split, "anomalous"].to_dict() == {"signature": 16, "test": 2, "validation": 2}
            assert counts[split, "normal"].to_dict() == {"train": 16, "test": 2, "validation": 2}


def test_few_scenes_still_have_all_roles_or_the_error_says_what_to_do(tmp_path):
    for images in (3, 4, 5):
        dataset = PreparedDataset.open(write_prepared(tmp_path / f"{images}", images=images))
        assert judged_apart(dataset, dataset.draw_roles(0, "scenes"))
    dataset = PreparedDataset.open(write_prepared(tmp_path / "two", images=2))
    with pytest.raises(DataError, match="images for validation, found none; add images of other scenes"):
        dataset.draw_roles(0, "scenes")


def test_the_arms_of_the_leak_differ_in_the_copies_of_tested_images_alone(dataset):
    scenes, label = dataset.manifest["scene"].to_numpy(), dataset.manifest["label"].to_numpy()
    for seed in range(5):
        apart, twins = (dataset.draw_roles(seed, arm) for arm in ("apart", "twins"))
        for role in ("test", "signature"):
            assert np.array_equal(apart == role, twins == role) and (apart == role).any()
        trained = [set(scenes[roles == "train"]) for roles in (apart, twins)]
        tested = set(scenes[(apart == "test") & (label == "anomalous")])
        assert len(trained[0]) == len(trained[1]) == 32
        assert not tested & trained[0] and trained[1] - trained[0] == tested
        assert not set(scenes[(apart == "test") & (label == "normal")]) & (trained[0] | trained[1])


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
    found = list(batches(dataset, index, (24, 24), 5, levels=["pixel"]))
    assert [len(b.index) for b in found] == [5, 5, 5, 5, 3]
    assert np.array_equal(np.concatenate([b.index for b in found]), index)
    for batch in found:
        for row, image, mask in zip(batch.index.tolist(), batch.images, batch.masks["pixel"], strict=True):
            assert torch.equal(image, dataset.image(row, (24, 24)))
            assert torch.equal(mask, dataset.mask(row, (24, 24)))
    assert not list(batches(dataset, [], (24, 24), 5))


def test_images_that_the_caller_knows_are_not_decoded(dataset):
    index = np.arange(len(dataset))
    known = {1, 2, 6}
    for batch in batches(dataset, index, (24, 24), 4, levels=["pixel"], known=known):
        kept = [i for i in batch.index.tolist() if i in known]
        others = batch.index.tolist()[len(kept) :]
        assert not known & set(others) and len(batch.images) == len(others)
        for image, row in zip(batch.images, others, strict=True):
            assert torch.equal(image, dataset.image(row, (24, 24)))
        for mask, row in zip(batch.masks["pixel"], batch.index.tolist(), strict=True):
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
    assert "pixel" not in dataset.levels
    with pytest.raises(DataError, match="expected a mask"):
        dataset.mask(int(np.flatnonzero(dataset.anomalous)[0]), (8, 8))
    dataset.manifest["split"] = "train"
    with pytest.raises(DataError, match="expected anomalous images for validation, found none"):
        dataset.draw_roles(0, "paper")
