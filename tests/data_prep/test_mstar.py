"""MSTAR: raw Phoenix files and image chips."""

import json

import cv2
import numpy as np
import pytest
from fakes.releases import chip, mstar_images, mstar_phoenix, phoenix, save

from data_prep import DataError, prepare, read_manifest
from data_prep.datasets import mstar


def test_phoenix_chip_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    magnitude, phase = rng.gamma(1.0, size=(30, 20)), rng.uniform(-3, 3, (30, 20))
    path = tmp_path / "HB03333.015"
    path.write_bytes(phoenix(magnitude, phase, "bmp2_tank", "9563", 15))
    read, header = mstar.read_phoenix(path), mstar.read_header(path)
    np.testing.assert_array_equal(read, np.stack([magnitude, phase]).astype(np.float32))
    assert header["TargetType"] == "bmp2_tank" and header["TargetAz"] == "41.8"
    assert read.dtype == np.float32 and read.dtype.isnative


def test_phoenix_scene_comes_back(tmp_path):
    magnitude = np.arange(600).reshape(20, 30)
    path = tmp_path / "HB06158"
    path.write_bytes(phoenix(magnitude, magnitude[::-1], scene=True))
    np.testing.assert_array_equal(mstar.read_phoenix(path), np.stack([magnitude, magnitude[::-1]]))


def test_raw_release_is_sorted_by_its_headers(tmp_path):
    items, report = mstar.items(mstar_phoenix(tmp_path), mstar.Parameters())
    assert {(item.category, item.split) for item in items} == {
        (name, split) for name in ("T72", "ZSU23-4") for split in ("train", "test")
    }
    assert all(item.split == ("train" if item.source.startswith("17") else "test") for item in items)
    assert report["left_out"] == {"clutter scenes": 1, "depression 30": 3, "T72 serial 812": 2}
    assert report["unlike_standard_operating_conditions"]["T72 train"] == {"found": 1, "standard": 232}


def test_a_raw_chip_names_the_scene_that_it_was_cut_from(tmp_path):
    for name, more in (
        ("HB1.015", {"ParentScene": "hb1"}),
        ("HB1.016", {"ParentScene": "hb1"}),
        ("HB2.000", {}),
    ):
        (tmp_path / name).write_bytes(phoenix(chip(1) / 510, chip(1) * 0, **more))
    items, _ = mstar.items(tmp_path, mstar.Parameters())
    assert [item.scene for item in items] == ["hb1", "hb1", ""]


def test_raw_and_image_chips_of_the_same_levels_prepare_alike(tmp_path):
    image = chip(5) // 2  # a stretch of its own would change it
    save(tmp_path / "images" / "train" / "T72" / "hb1.png", image)
    raw = tmp_path / "raw" / "HB1.015"
    raw.parent.mkdir()
    raw.write_bytes(phoenix(image / 510, image * 0, "t72_tank", "132", 17))
    folders = [prepare("mstar", tmp_path / name, tmp_path / f"out-{name}") for name in ("images", "raw")]
    first, second = (sorted((folder / "anomalous").iterdir())[0].read_bytes() for folder in folders)
    assert first == second


def test_a_stretch_per_chip_is_an_option(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "HB1.015").write_bytes(phoenix(chip(5) / 100 + 3, chip(5) * 0))
    image = cv2.imread(
        str(next(prepare("mstar", tmp_path / "raw", tmp_path / "out", white=None).glob("a*/*"))), 0
    )
    assert (image.min(), image.max()) == (0, 255)


def test_centre_crop():
    image = np.arange(7 * 6).reshape(7, 6)
    np.testing.assert_array_equal(mstar.centre_crop(image, 4), image[1:5, 1:5])
    assert mstar.centre_crop(image, None) is image
    with pytest.raises(DataError, match="at least 8x8 pixels, found 6x7; set crop lower"):
        mstar.centre_crop(image, 8)


@pytest.mark.parametrize(
    ("name", "known"),
    [("BRDM_2", "BRDM2"), ("ZSU_23_4", "ZSU23-4"), ("zsu23-4_gun", "ZSU23-4"), ("2s1_gun", "2S1")]
    + [("d7_bulldozer", "D7"), ("btr70_transport", "BTR70"), ("slicey", None), ("T720", None)],
)
def test_class_names(name, known):
    assert mstar.vehicle_class(name) == known


def test_prepared_image_chips(tmp_path):
    out = prepare("mstar", mstar_images(tmp_path / "raw"), tmp_path / "out")
    table = read_manifest(out, verify=True)
    assert table.groupby(["class", "split", "label"]).size().tolist() == [2] * 8
    assert (table["width"] == 128).all() and set(table["class"]) == {"T72", "ZSU23-4"}
    anomalous = table[table["label"] == "anomalous"]
    assert (anomalous["mask"] == anomalous["path"].str.replace("anomalous", "masks")).all()
    assert anomalous["source"].iloc[0] == "test/T72/hb00000.jpeg"
    preparation = json.loads((out / "preparation.json").read_text())
    assert preparation["parameters"]["crop"] == 128 and preparation["dataset"] == "mstar"


def test_the_release_may_lie_in_a_subfolder(tmp_path):
    mstar_images(tmp_path / "data" / "MSTAR", per_class=1)
    save(tmp_path / "data" / "other" / "x.png", chip(0))
    out = prepare("mstar", tmp_path / "data", tmp_path / "out")
    assert len(read_manifest(out)) == 8


def test_tiles_of_chips(tmp_path):
    table = read_manifest(prepare("mstar", mstar_images(tmp_path / "raw", 1), tmp_path / "out", tile_size=64))
    assert (table["width"] == 64).all() and table["source"].str.contains("#r").all()
    places = table.loc[table["source"].str.startswith("test/T72"), "source"]
    assert set(places) == {f"test/T72/hb00000.jpeg#r{r}c{c}" for r in (0, 64) for c in (0, 64)}
    masked = table[table["label"] == "anomalous"]
    assert set(masked["path"].str.replace("anomalous", "normal")) <= set(table["path"])
