"""Which images make a signature, and which must not."""

import logging
import shutil

import pytest
import torch
from anomalib.data import Folder, ImageBatch, ImageItem
from anomalib.data.datasets.image.folder import FolderDataset
from anomalib.data.utils import read_image
from small import cosines, data, engine, held_out, model
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, random_split

from padim_ace.anomalib.signature_images import SignatureFolder, listed


class Items(Dataset):
    """A dataset that is not anomalib's."""

    def __init__(self, root):
        self.paths = sorted(root.iterdir())

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        return ImageItem(image=read_image(path, as_tensor=True), image_path=str(path))


class MixedTraining(Folder):
    """A data module whose training set has anomalous images too."""

    def _create_val_split(self):
        super()._create_val_split()
        others = {"abnormal_dir": "others", "mask_dir": "other_masks", "split": "test"}
        self.train_data += FolderDataset("fake", "normal", root=self.root, **others)


def loaders(*datasets):
    return [DataLoader(dataset, 4, collate_fn=ImageBatch.collate) for dataset in datasets]


def split(folder, *names):
    """Datasets of a data module, as a user takes them to make loaders by hand."""
    module = data(folder, augmentations=model().pre_processor.transform)
    module.setup()
    return [getattr(module, f"{name}_data") for name in names]


def test_they_come_from_a_folder_a_dataset_or_the_training_set(folder, tmp_path):
    results = []
    for source, kind in (
        (folder / "others", Folder),
        (Items(folder / "others"), Folder),
        (None, MixedTraining),
    ):
        fitted, module = model(signature_images=source), data(folder, kind)
        engine(tmp_path).fit(fitted, datamodule=module)
        results.append(cosines(fitted, held_out(module)))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-6, rtol=0)


def test_validation_images_make_the_signature_or_set_the_threshold(folder, tmp_path, caplog):
    fitted, module = model(), data(folder)
    with caplog.at_level(logging.INFO):
        engine(tmp_path).fit(fitted, datamodule=module)
    assert "Signature from 3 of 5 anomalous images of the validation set; the other 2 set" in caplog.text
    anomalous = [path for path, label in listed(module.val_data) if label]
    assert fitted._signature.paths == {str(path) for path in anomalous[::2]}
    left = [i for i, (path, _) in enumerate(listed(module.val_data)) if path not in anomalous[::2]]
    scores = cosines(fitted, torch.stack([module.val_data[i].image for i in left]))[1]
    assert (fitted.post_processor.image_threshold - scores).abs().min() < 1e-6
    torch.testing.assert_close(fitted.post_processor.image_max, scores.max())


def test_synthetic_anomalies_make_none(folder, tmp_path):
    """anomalib advises them where there are no defects; a signature of Perlin noise finds Perlin noise."""
    synthetic = data(
        folder, abnormal_dir=None, mask_dir=None, val_split_mode="synthetic", val_split_ratio=0.4
    )
    message = (
        'found 2 synthetic ones; set signature_images to a folder of some, or take preset="unsupervised"'
    )
    with pytest.raises(ValueError, match=message) as error:
        engine(tmp_path).fit(model(), datamodule=synthetic)
    assert "\n" not in str(error.value)
    fitted = model(signature_images=folder / "others")  # which is what the message says
    engine(tmp_path).fit(fitted, datamodule=synthetic)
    assert fitted._signature.asked


def test_the_test_sets_make_none_unless_asked(folder, tmp_path):
    same = data(folder, val_split_mode="same_as_test")
    with pytest.raises(ValueError, match="none of the test set, found 5; set signature_images to a folder"):
        engine(tmp_path).fit(model(), datamodule=same)
    with pytest.warns(UserWarning) as warned:
        engine(tmp_path).fit(model(signature_images=folder / "anomalous"), datamodule=data(folder))
    told = " ".join(str(warning.message) for warning in warned)
    assert "none of the test set, found 5; test metrics will be too good" in told
    assert "none of the validation set, found 5; the threshold will be too high" in told


@pytest.mark.parametrize(
    "nest",
    [
        lambda test, _: test,
        lambda test, _: Subset(test, range(len(test))),
        lambda test, other: ConcatDataset([other, Subset(test, range(len(test)))]),
        lambda test, _: random_split(test, [1.0])[0],
    ],
    ids=["plain", "Subset", "ConcatDataset", "random_split"],
)
def test_the_test_set_is_known_through_any_nesting(nest, folder, tmp_path):
    module = data(folder)
    module.setup()
    source = nest(module.test_data, Items(folder / "others"))
    with pytest.warns(UserWarning, match="none of the test set, found 5"):
        engine(tmp_path).fit(model(signature_images=source), datamodule=module)


def test_a_test_set_given_by_hand_as_validation_set_is_noticed(folder, tmp_path):
    train, test = split(folder, "train", "test")
    fitted, runner = model(), engine(tmp_path)
    train_loader, test_loader = loaders(train, test)
    with pytest.raises(ValueError, match="none of the test set, found 3"):
        runner.train(fitted, train_loader, test_loader, test_loader)
    stored = runner.best_model_path  # the guard travels with the state
    with pytest.raises(ValueError, match="none of the test set, found 3"):
        engine(tmp_path).test(model(), dataloaders=test_loader, ckpt_path=stored)


def test_a_random_split_keeps_its_labels(folder, tmp_path):
    train, validation = split(folder, "train", "val")
    part = random_split(validation, [0.5, 0.5], torch.Generator().manual_seed(0))[0]
    labels = [label for _, label in listed(part)]
    assert 0 < sum(labels) < len(labels)
    fitted = model()
    engine(tmp_path).fit(fitted, *loaders(train, part))
    assert len(fitted._signature.paths) == (sum(labels) + 1) // 2
    chosen = model(signature_images=Subset(validation, range(len(validation))))  # normal images too
    engine(tmp_path).fit(chosen, *loaders(train, part))
    assert chosen._signature.paths == {str(path) for path, label in listed(validation) if label}


def test_masks_are_paired_by_relative_path(folder, tmp_path):
    """As in MVTec AD, where every kind of defect counts from 000.png."""
    for name, ending, images in (("images", "", "others"), ("masks", "_mask", "other_masks")):
        for number, kind in enumerate("ab"):
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(2):
                file = folder / images / f"a{10 + 2 * number + i}.png"
                shutil.copy(file, tmp_path / name / kind / f"00{i}{ending}.png")
    found = SignatureFolder(tmp_path / "images", tmp_path / "masks")
    expected = SignatureFolder(folder / "others", folder / "other_masks")
    for item, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(item.image, wanted.image)
        torch.testing.assert_close(item.gt_mask, wanted.gt_mask)
    shutil.copy(tmp_path / "masks/a/000_mask.png", tmp_path / "masks/a/000.png")
    one = r"masks: expected one mask a/000.\* or a/000_mask.\* for one image, "
    with pytest.raises(ValueError, match=f"{one}found a/000.png, a/000_mask.png for 1"):
        SignatureFolder(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "masks/a/000.png").unlink()
    shutil.copy(tmp_path / "images/a/000.png", tmp_path / "images/a/000.jpg")
    with pytest.raises(ValueError, match=f"{one}found a/000_mask.png for 2"):
        SignatureFolder(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(ValueError, match=r"expected one mask a10.\* or a10_mask.\* .*, found none for 1"):
        SignatureFolder(folder / "others", folder / "masks")
