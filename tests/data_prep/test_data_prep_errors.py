"""Bad input: a one-line error that names file, expected, found and what to do, and nothing half written."""

import inspect
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import releases
from fakes.releases import chip, phoenix, save, water
from PIL import Image

from data_prep import DataError, prepare


def first(raw, pattern):
    return sorted(raw.glob(pattern))[0]


def truncated_jpeg(raw):
    path = first(releases.mstar_images(raw), "test/T72/*.jpeg")
    path.write_bytes(path.read_bytes()[:1500])
    return "mstar", path, "a whole image", {}


def empty_jpeg(raw):
    path = first(releases.ssdd(raw), "**/JPEGImages_test/*.jpg")
    path.write_bytes(b"")
    return "ssdd", path, "found an empty file", {}


def not_an_image(raw):
    path = first(releases.mstar_images(raw), "train/T72/*.jpeg")
    path.write_text("<html>Sign in</html>")
    return "mstar", path, "another kind of file", {}


def not_8_bit(raw):
    path = first(releases.ssdd(raw), "**/JPEGImages_train/*.jpg")
    path.unlink()
    Image.fromarray(np.full((100, 128), 700, np.uint16)).save(path.with_suffix(".png"))
    return "ssdd", path.with_suffix(".png"), "an 8-bit image, found uint16", {}


def mask_of_another_size(raw):
    path = first(releases.ssdd(raw), "**/JPEGImages_PSeg_GT_Mask/*")
    save(path, np.full((10, 20), 255, np.uint8))
    return "ssdd", path, "a mask of 128x100 like its image, found 20x10", {}


def empty_mask(raw):
    path = first(releases.ssdd(raw), "**/JPEGImages_PSeg_GT_Mask/*")
    save(path, np.zeros((100, 128), np.uint8))
    return "ssdd", path, "at least one target pixel", {}


def annotation_of_a_missing_image(raw):
    releases.hrsid(raw)
    first(raw, "**/JPEGImages/*").unlink()
    return "hrsid", raw / "HRSID_JPG/annotations/train2017.json", "found one of P0001_0_160_0_160.jpg", {}


def annotations_that_are_no_json(raw):
    path = first(releases.hrsid(raw), "**/test2017.json")
    path.write_text('{"images": [')
    return "hrsid", path, "COCO annotations", {}


def annotations_without_polygons(raw):
    path = first(releases.hrsid(raw), "**/test2017.json")
    content = json.loads(path.read_text())
    del content["annotations"][0]["segmentation"]
    path.write_text(json.dumps(content))
    return "hrsid", path, "a polygon of three points or more, or a bbox, in annotation 0, found neither", {}


def missing_mask_and_annotations(raw):
    releases.ssdd(raw, masks=None)
    first(raw, "**/annotations/train.json").unlink()
    return "ssdd", first(raw, "**/JPEGImages_train/*"), "found neither", {}


def image_without_polygons(raw):
    releases.ssdd(raw, masks=None)
    path = first(raw, "**/annotations/train.json")
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][1:]
    path.write_text(json.dumps(content))
    return "ssdd", first(raw, "**/JPEGImages_train/*"), "a mask or polygons of ships", {}


def phoenix_file(raw, content):
    raw.mkdir()
    path = raw / "HB03333.015"
    path.write_bytes(content)
    return path


def phoenix_header_cut_short(raw):
    path = phoenix_file(raw, phoenix(chip(0), chip(0))[:150])
    return "mstar", path, "a header cut short", {}


def phoenix_data_cut_short(raw):
    path = phoenix_file(raw, phoenix(chip(0), chip(0))[:-100])
    return "mstar", path, "bytes of header and 128x128 pixels", {}


def phoenix_header_lies_about_rows(raw):
    path = phoenix_file(raw, phoenix(chip(0), chip(0), NumberOfRows="4096"))
    return "mstar", path, "4096x128 pixels", {}


def phoenix_header_lies_about_size(raw):
    path = phoenix_file(raw, phoenix(chip(0), chip(0), PhoenixSigSize="0000031337"))
    return "mstar", path, r"31337 bytes \(PhoenixSigSize\)", {}


def phoenix_header_without_a_number(raw):
    path = phoenix_file(raw, phoenix(chip(0), chip(0), NumberOfColumns="many"))
    return "mstar", path, "a whole number as NumberOfColumns, found many", {}


def phoenix_header_without_depression(raw):
    path = phoenix_file(raw, phoenix(chip(0), chip(0), DesiredDepression="?", MeasuredDepression="nan"))
    return "mstar", path, "a number as DesiredDepression or MeasuredDepression", {}


def nan_magnitudes(raw):
    magnitude = chip(0).astype(np.float32)
    magnitude[3, 4:6] = np.nan
    return "mstar", phoenix_file(raw, phoenix(magnitude, chip(0))), "found 2 NaN or infinite", {}


def infinite_pixels(raw):
    path = raw / "normal" / "x.npy"
    own_data(raw)
    np.save(path, np.full((64, 64), np.inf))
    return "folder", path, "expected pixels with data, found none", {}


def constant_chip(raw):
    path = save(raw / "train" / "T72" / "hb1.png", np.full((128, 128), 20, np.uint8))
    return "mstar", path, "2 grey levels for k-means, found 20 in all pixels", {}


def constant_magnitude(raw):
    path = phoenix_file(raw, phoenix(np.ones((128, 128)), np.ones((128, 128))))
    return "mstar", path, "found 1 in all pixels", {}


def target_that_fills_the_frame(raw):
    path = first(releases.ssdd(raw), "**/JPEGImages_PSeg_GT_Mask/*")
    save(path, np.full((100, 128), 255, np.uint8))
    return "ssdd", first(raw, "**/JPEGImages_train/*"), "a mask over the whole image", {}


def chip_smaller_than_the_crop(raw):
    path = save(raw / "train" / "T72" / "hb1.png", chip(0)[:100, :90])
    return "mstar", path, "at least 128x128 pixels, found 90x100; set crop lower", {}


def chips_without_a_split(raw):
    path = save(raw / "T72" / "hb1.png", chip(0))
    return "mstar", path, "a folder train or test", {}


def tiles_larger_than_the_image(raw):
    path = first(releases.hrsid(raw), "**/JPEGImages/*")
    return "hrsid", path, "at least the tile size 500, found 160x160", {"tile_size": 500}


def no_images_at_all(raw):
    raw.mkdir()
    return "mstar", raw, "sdms.afrl.af.mil", {}


def no_backgrounds(raw):
    releases.hrsid(raw, background=0)
    return "hrsid", raw / "HRSID_JPG", "1U0Sj1SHoq-2VjXXUKwpXae6rBI3YjyDP", {}


def release_missing(raw):
    return "ssdd", raw, "1glNJUGotrbEyk43twwB9556AdngJsynZ", {}


def own_data(raw):
    for i in range(2):
        save(raw / "normal" / f"n{i}.png", water(i, 64))
        save(raw / "anomalous" / f"a{i}.png", water(9 + i, 64))
    return raw


def two_files_of_one_name(raw):
    own_data(raw)
    save(raw / "normal" / "N0.tif", water(5, 64))
    return "folder", raw / "normal", "one image named normal_n0, found also normal/N0.tif", {}


def two_masks_of_one_name(raw):
    own_data(raw)
    for name in ("a0.png", "a0.jpg"):
        save(raw / "masks" / name, water(0, 64))
    return "folder", raw / "masks" / "a0.png", "one file named a0, found also a0.jpg", {}


def own_mask_missing(raw):
    own_data(raw)
    save(raw / "masks" / "a0.png", water(0, 64))
    return "folder", raw / "anomalous" / "a1.png", "a mask a1.png", {}


def own_mask_without_image(raw):
    own_data(raw)
    for i in range(3):
        save(raw / "masks" / f"a{i}.png", water(0, 64))
    return "folder", raw / "masks" / "a2.png", "an anomalous image named a2", {}


def no_normals(raw):
    own_data(raw)
    for path in (raw / "normal").iterdir():
        path.unlink()
    return "folder", raw / "normal", "found none; add some, or set removal", {}


def no_masks_to_remove_by(raw):
    own_data(raw)
    return "folder", raw / "anomalous", "a mask to remove targets by", {"removal": "mask"}


def many_bands(raw):
    own_data(raw)
    np.save(raw / "normal" / "x.npy", np.zeros((8, 9, 5)))
    return "folder", raw / "normal" / "x.npy", r"an array of shape \(8, 9, 5\)", {}


def pickled_array(raw):
    own_data(raw)
    np.save(raw / "normal" / "x.npy", np.array([{"a": 1}], dtype=object))
    return "folder", raw / "normal" / "x.npy", "a whole image", {}


def truncated_tiff(raw):
    path = save(own_data(raw) / "normal" / "x.tif", water(0, 64))
    path.write_bytes(path.read_bytes()[:1000])
    return "folder", path, "a whole image", {}


def unknown_parameter(raw):
    return "mstar", "parameter", "found 'crops'; rename it", {"crops": 3}


def unknown_removal(raw):
    return "ssdd", "removal", "found 'inpaint'", {"removal": "inpaint"}


def a_parameter_of_another_type(raw):
    return "mstar", "white", "a valid number.*found 'dB'", {"white": "dB"}


def unknown_dataset(raw):
    return "sardet", "dataset", "one of mstar, hrsid, ssdd, ssdd_kmeans, demo_vehicle", {}


CASES = [
    value
    for value in list(globals().values())
    if inspect.isfunction(value)
    and value is not own_data
    and list(inspect.signature(value).parameters) == ["raw"]
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_bad_input_is_one_line_and_nothing_is_half_written(tmp_path, case):
    dataset, where, message, parameters = case(tmp_path / "raw")
    out = tmp_path / "out"
    with pytest.raises(DataError, match=message) as error:
        prepare(dataset, tmp_path / "raw", out, **parameters)
    text = str(error.value)
    assert text.startswith(str(where)) and "\n" not in text
    assert ": expected " in text and ", found " in text and "; " in text
    assert not (out / "manifest.csv").exists() and not list(tmp_path.rglob("*.tmp"))
    for path in out.rglob("*.png"):
        Image.open(path).load()  # whole


def test_there_are_at_least_twenty_cases():
    assert len(CASES) >= 20


def test_errors_of_workers_are_one_line_too(tmp_path):
    dataset, where, message, _ = truncated_jpeg(tmp_path / "raw")
    with pytest.raises(DataError, match=message) as error:
        prepare(dataset, tmp_path / "raw", tmp_path / "out", processes=2)
    assert str(error.value).startswith(str(where)) and error.value.__suppress_context__


def test_a_mended_file_is_all_that_was_missing(tmp_path):
    dataset, where, _, _ = truncated_jpeg(tmp_path / "raw")
    with pytest.raises(DataError):
        prepare(dataset, tmp_path / "raw", tmp_path / "out")
    save(where, chip(0))
    assert (prepare(dataset, tmp_path / "raw", tmp_path / "out") / "manifest.csv").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_unreadable_folder(tmp_path):
    raw = own_data(tmp_path / "raw")
    (raw / "normal").chmod(0)
    with pytest.raises(DataError, match="readable folder"):
        prepare("folder", raw, tmp_path / "out")
    (raw / "normal").chmod(0o755)


def test_unreadable_folder_as_the_system_says_it(tmp_path, monkeypatch):
    raw, listing = own_data(tmp_path / "raw"), Path.iterdir

    def denied(folder):
        if folder == raw / "normal":
            raise PermissionError(13, "Permission denied", str(folder))
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(
        DataError, match="normal: expected a readable folder of images, found Permission denied"
    ):
        prepare("folder", raw, tmp_path / "out")


def test_a_foreign_folder_is_left_alone(tmp_path):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "thesis.docx").write_text("mine")
    with pytest.raises(DataError, match="an empty or prepared folder, found 'sub/thesis.docx'"):
        prepare("folder", own_data(tmp_path / "raw"), out)
    assert len(list(out.iterdir())) == 1


def test_raw_data_is_not_prepared_over_itself(tmp_path):
    raw = own_data(tmp_path / "raw")
    with pytest.raises(DataError, match="an empty or prepared folder"):
        prepare("folder", raw, raw)
    assert len(list(raw.rglob("*.png"))) == 4


@pytest.mark.parametrize("name", ["thesis.docx", "images/holiday.png", "masks/scene1.png"])
def test_simulation_leaves_a_foreign_folder_alone(tmp_path, name):
    path = tmp_path / "raw" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(DataError, match=f"an empty folder to simulate into, found '{name}'"):
        prepare("demo_sea", tmp_path / "raw", tmp_path / "out", scenes=4)
    assert path.read_text() == "mine"


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
from data_prep.__main__ import main
sys.exit(main(["mstar", "--raw", {raw!r}, "--out", {out!r}]))
"""


def test_a_disk_that_fills_up(tmp_path):
    raw, out = releases.mstar_images(tmp_path / "raw"), tmp_path / "out"
    # A limit on the size of files stands for a full disk: the system call fails in the middle of a write.
    code = FULL_DISK.format(tests=str(Path(__file__).parent), raw=str(raw), out=str(out))
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    message = run.stderr.splitlines()[-1]
    assert run.returncode == 1 and message.startswith(f"error: {out}") and "it resumes" in message
    assert not list(out.rglob("*.tmp")) and not (out / "manifest.csv").exists()
    for path in out.rglob("*.png"):
        Image.open(path).load()
    assert (prepare("mstar", raw, out) / "manifest.csv").exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 6000
