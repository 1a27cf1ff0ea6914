"""SSDD: masks, polygons, duplicates, both ways of removal."""

import json
import shutil

import cv2
import numpy as np
import pytest
from fakes.releases import ssdd as fake

from data_prep import prepare, read_manifest
from data_prep.datasets import ssdd


def masks(folder):
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((folder / "masks").iterdir())]


def tree(raw):
    return next(raw.glob("**/voc_style"))


@pytest.mark.parametrize("suffix", [".png", ".jpg", None])
def test_masks_come_from_files_or_polygons(tmp_path, suffix):
    out = prepare("ssdd", fake(tmp_path / "raw", suffix), tmp_path / "out")
    table = read_manifest(out, verify=True)
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("test", "anomalous"): 2, ("test", "normal"): 2, ("train", "anomalous"): 3, ("train", "normal"): 3,
    }  # fmt: skip
    expected = np.zeros((100, 128), bool)
    expected[20:28, 30:50] = True
    for mask in masks(out):
        wrong = np.count_nonzero((mask > 0) != expected)
        assert wrong == 0 if suffix == ".png" else wrong <= 30  # JPEG rings, and polygons end between pixels


def test_removal_by_mask_fills_the_dilated_mask_and_nothing_else(tmp_path):
    out = prepare("ssdd", fake(tmp_path / "raw"), tmp_path / "out", dilation=5)
    before, after = (cv2.imread(str(out / kind / "000001.png"), 0) for kind in ("anomalous", "normal"))
    outside = np.ones(before.shape, bool)
    outside[18:30, 28:52] = False
    np.testing.assert_array_equal(before[outside], after[outside])
    assert before[22:26, 32:48].min() > 200 and after[20:28, 30:50].max() < 200


def test_removal_by_kmeans_keeps_the_release_masks_and_reports_what_it_covered(tmp_path):
    by_mask = prepare("ssdd", fake(tmp_path / "raw"), tmp_path / "a")
    by_kmeans = prepare("ssdd", tmp_path / "raw", tmp_path / "b", removal="kmeans")
    for a, b in zip(masks(by_mask), masks(by_kmeans), strict=True):
        np.testing.assert_array_equal(a, b)
    report = json.loads((by_kmeans / "preparation.json").read_text())["report"]["target_pixels_removed"]
    assert report["images"] == 5 and 0 < report["mean_share"] <= 1


def test_no_normal_is_made_where_kmeans_takes_everything_for_target(tmp_path):
    raw = fake(tmp_path / "raw")
    # A small step in grey over the whole image: the brighter half, closed and grown, covers it all.
    image = np.full((100, 128), 60, np.uint8)
    image[::3, ::40], image[22:26, 32:36] = 90, 70
    cv2.imwrite(str(tree(raw) / "JPEGImages_train" / "000001.jpg"), image)
    out = prepare("ssdd", raw, tmp_path / "out", removal="kmeans", target_growth=60.0)
    report = json.loads((out / "preparation.json").read_text())["report"]
    (noted,) = [about for note, about in report["notes"].items() if "without a normal" in note]
    assert "000001" in noted["first"]
    table = read_manifest(out, verify=True)
    assert (out / "anomalous" / "000001.png").exists() and not (out / "normal" / "000001.png").exists()
    assert (table["label"] == "normal").sum() == 5 - noted["images"]


def test_duplicates_are_reported_and_dropped(tmp_path):
    raw = fake(tmp_path / "raw")
    voc = tree(raw)
    # 000001 (train) again as 000004 (test), and 000002 as 000003 within the training split.
    shutil.copy(voc / "JPEGImages_train" / "000001.jpg", voc / "JPEGImages_test" / "000004.jpg")
    shutil.copy(voc / "JPEGImages_train" / "000002.jpg", voc / "JPEGImages_train" / "000003.jpg")
    items, report = ssdd.items(raw, ssdd.Parameters())
    assert report["duplicate_groups"] == [["000001", "000004"], ["000002", "000003"]]
    assert report["duplicate_groups_across_splits"] == [["000001", "000004"]]
    assert len(items) == 5
    assert [item.scene or item.name for item in items] == ["000001", "000002", "000002", "000001", "000005"]
    items, report = ssdd.items(raw, ssdd.Parameters(drop_duplicates=True))
    assert report["dropped"] == ["000001", "000003"]
    assert sorted(item.name for item in items) == ["000002", "000004", "000005"]
