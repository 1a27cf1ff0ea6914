"""HRSID: polygons, pure backgrounds, tiles."""

import cv2
import numpy as np
from fakes.releases import SHIP
from fakes.releases import hrsid as fake

from data_prep import prepare, read_manifest
from data_prep.datasets import hrsid
from data_prep.pipeline import tile_starts


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
    assert set(table["scene"]) == {path.stem for path in (tmp_path / "raw").rglob("*.jpg")}
    assert (table.groupby("scene").size() == 16).all()
    tile = cv2.imread(str(out / anomalous["path"].iloc[0]), 0)
    np.testing.assert_array_equal(tile, whole[:40, :40])
    parts = [cv2.imread(str(out / name), 0) > 0 for name in anomalous["mask"].iloc[:2]]
    assert [part.sum() for part in parts] == [10 * 8, 10 * 8]


def test_tiles_cover_the_image_to_its_edges(tmp_path):
    assert tile_starts(100, 40, 0) == [0, 40, 60] and tile_starts(30, 30, 0) == [0]
    assert tile_starts(100, 40, 10) == [0, 30, 60] and tile_starts(80, 40, 0) == [0, 40]
    out = prepare("hrsid", fake(tmp_path / "raw"), tmp_path / "out", tile_size=70, overlap=20)
    table, seen = read_manifest(out), np.zeros((160, 160), int)
    for source in table["source"]:
        if source.startswith("JPEGImages/P0001"):
            top, left = map(int, source.split("#r")[1].split("c"))
            seen[top : top + 70, left : left + 70] += 1
    assert seen.min() == 1 and seen[55, 10] == 2


def test_images_without_annotation_are_reported(tmp_path):
    raw = fake(tmp_path)
    folder = raw / "HRSID_JPG" / "JPEGImages"
    (folder / "extra.jpg").write_bytes(next(folder.glob("*.jpg")).read_bytes())
    assert hrsid.items(raw, hrsid.Parameters())[1]["left_out"] == {"images without annotation": 1}
    assert SHIP[0] == 30  # what the tests above count on
