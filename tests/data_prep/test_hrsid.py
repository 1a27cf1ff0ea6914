"""HRSID: polygons, pure backgrounds, tiles."""

import cv2
import numpy as np
from fakes.releases import SHIP
from fakes.releases import hrsid as fake

from data_prep import prepare, read_manifest
from data_prep.datasets import hrsid


def test_whole_images_and_pure_backgrounds(tmp_path):
    out = prepare("hrsid", fake(tmp_path / "raw"), tmp_path / "out")
    table = read_manifest(out, verify=True)
    assert table.groupby(["class", "split", "label"]).size().to_dict() == {
        ("background", "train", "normal"): 2,
        ("ship", "test", "anomalous"): 2,
        ("ship", "train", "anomalous"): 2,
    }
    mask = cv2.imread(str(out / table["mask"].iloc[0]), cv2.IMREAD_UNCHANGED) > 0
    assert mask.sum() == 20 * 8 and mask[20:28, 30:50].all()


def test_tiles(tmp_path):
    out = prepare("hrsid", fake(tmp_path / "raw"), tmp_path / "out", tile_size=40)
    table = read_manifest(out, verify=True)
    assert len(table) == 6 * 16
    anomalous = table[table["label"] == "anomalous"]
    # The ship spans columns 30 to 49, so it lies in two tiles of each image.
    assert sorted(anomalous["source"].str.split("#").str[1]) == ["r0c0"] * 4 + ["r0c40"] * 4
    whole = cv2.imread(str(tmp_path / "raw" / "HRSID_JPG" / anomalous["source"].iloc[0].split("#")[0]), 0)
    tile = cv2.imread(str(out / anomalous["path"].iloc[0]), 0)
    np.testing.assert_array_equal(tile, whole[:40, :40])
    parts = [cv2.imread(str(out / name), 0) > 0 for name in anomalous["mask"].iloc[:2]]
    assert [part.sum() for part in parts] == [10 * 8, 10 * 8]


def test_tile_corners_leave_out_the_rest():
    assert hrsid.tile_corners((100, 90), 40) == [(0, 0), (0, 40), (40, 0), (40, 40)]
    assert hrsid.tile_corners((30, 30), 30) == [(0, 0)]


def test_images_without_annotation_are_reported(tmp_path):
    raw = fake(tmp_path)
    folder = raw / "HRSID_JPG" / "JPEGImages"
    (folder / "extra.jpg").write_bytes(next(folder.glob("*.jpg")).read_bytes())
    assert hrsid.items(raw, hrsid.Parameters())[1] == {"images_without_annotation": ["extra.jpg"]}
    assert SHIP[0] == 30  # what the tests above count on
