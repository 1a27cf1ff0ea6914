"""Files as people have them: what is read as it is, what is refused, what is repaired and reported."""

import json
import re
import struct
import unicodedata

import cv2
import numpy as np
import pytest
import tifffile
from fakes import releases
from fakes.releases import SHIP, chip, phoenix, save, water
from PIL import Image

from data_prep import DataError, prepare, read_manifest
from data_prep.images import MOST_PIXELS

CASES = []
SQUARE = np.s_[24:32, 24:32]  # where the target of an own image is


def odd(outcome, text="", **parameters):
    """Registers a case: a function of the raw folder that returns the name of the dataset.

    outcome: `reads` (nothing to report), `refused` (`text` is in the line) or `repaired` (in the report).
    """

    def register(make):
        CASES.append(pytest.param(make, outcome, text, parameters, id=f"{make.__name__}-{outcome}"))
        return make

    return register


def scene(seed, ship=False, shape=(64, 64)):
    """Linear intensity: speckle near 0.1, and a bright square."""
    x = np.random.default_rng(seed).gamma(4, 0.025, shape)
    if ship:
        x[SQUARE] = 4.0
    return x


def eight(x):
    return np.clip(255 * x, 0, 255).astype(np.uint8)


def sixteen(x):
    return np.clip(np.sqrt(x) * 8000, 1, 65534).astype(np.uint16)


def own(raw, write, suffix=".tif", masks=True, normals=2):
    """A folder of images that `write(path, intensity)` saves."""
    for kind, count in (("normal", normals), ("anomalous", 2)):
        (raw / kind).mkdir(parents=True)
        for i in range(count):
            write(
                raw / kind / f"{kind[0]}{i}{suffix}", scene(i + 10 * (kind == "normal"), kind == "anomalous")
            )
    if masks:
        mask = np.zeros((64, 64), np.uint8)
        mask[SQUARE] = 255
        for i in range(2):
            save(raw / "masks" / f"a{i}.png", mask)
    return "folder"


def tif(convert, **tags):
    return lambda path, x: tifffile.imwrite(path, convert(x), **tags)


def nodata(value):
    return {"extratags": [(42113, 2, len(value) + 1, value, True)]}


def bordered(convert, value, rows=20):
    def write(x):
        y = convert(x)
        y[:rows] = value
        return y

    return write


def real32(x):
    return x.astype(np.float32)


def decibels(x):
    return (10 * np.log10(x)).astype(np.float32)


def complex64(x):
    return (np.sqrt(x) * np.exp(2j * np.pi * x)).astype(np.complex64)


# Number types and containers.
for name, write, suffix in [
    ("uint16", tif(sixteen), ".tif"),
    ("lzw_tiles_with_predictor", tif(sixteen, compression="lzw", tile=(32, 32), predictor=True), ".tif"),
    ("zstd", tif(sixteen, compression="zstd"), ".tif"),
    ("bigtiff_big_endian", tif(sixteen, bigtiff=True, byteorder=">"), ".tif"),
    ("float64", tif(np.float64), ".tif"),
    ("complex64_tif", tif(complex64), ".tif"),
    ("complex64_npy", lambda p, x: np.save(p, complex64(x)), ".npy"),
    ("bool_npy", lambda p, x: np.save(p, np.where(x > 1, True, x > 0.1)), ".npy"),
    ("float16_npy", lambda p, x: np.save(p, x.astype(np.float16)), ".npy"),
    ("big_endian_npy", lambda p, x: np.save(p, x.astype(">f4")), ".npy"),
    (
        "rgb_planar",
        tif(lambda x: np.stack([eight(x)] * 3), photometric="rgb", planarconfig="separate"),
        ".tif",
    ),
    ("rgba_png", lambda p, x: save(p, np.dstack([eight(x)] * 3 + [eight(x) * 0 + 255])), ".png"),
    ("upper_case_suffix", lambda p, x: save(p, eight(x)), ".PNG"),
]:

    def case(raw, write=write, suffix=suffix):
        return own(raw, write, suffix)

    case.__name__ = name
    odd("reads")(case)


@odd("reads")
def complex_int16_as_gdal_writes_it(raw):
    def write(path, x):
        z = 2000 * complex64(x)
        content = np.stack([z.real, z.imag], -1).astype("<i2").tobytes()
        h, w = x.shape
        tags = [(256, 3, w), (257, 3, h), (258, 3, 32), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
        tags += [(278, 3, h), (279, 4, len(content)), (339, 3, 5)]
        directory = b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in tags)
        head = b"II*\0" + struct.pack("<I", 8 + len(content))
        path.write_bytes(head + content + struct.pack("<H", len(tags)) + directory + bytes(4))

    return own(raw, write)


@odd("reads")
def an_overview_and_another_page_follow_the_image(raw):
    def write(path, x):
        with tifffile.TiffWriter(path) as file:
            file.write(sixteen(x), photometric="minisblack", subifds=1)
            file.write(sixteen(x)[::2, ::2], photometric="minisblack", subfiletype=1)
            file.write(np.full((9, 9), 255, np.uint8), photometric="minisblack")

    return own(raw, write)


@odd("reads")
def min_is_white(raw):
    return own(raw, tif(lambda x: 255 - eight(x), photometric="miniswhite"))


@odd("reads")
def palette_tiff_that_runs_backwards(raw):
    def write(path, x):
        image = Image.fromarray(255 - eight(x))
        image.putpalette([v for level in range(255, -1, -1) for v in [level] * 3])
        image.save(path)

    return own(raw, write)


@odd("refused", "2 x 64 x 64 values")
def two_bands_as_pages(raw):
    return own(raw, tif(lambda x: np.stack([real32(x), real32(x)]), photometric="minisblack"))


@odd("refused", "64 x 64 x 4 values")
def four_polarisations(raw):
    write = tif(lambda x: np.stack([real32(x)] * 4, -1), photometric="minisblack", planarconfig="contig")
    return own(raw, write)


@odd("refused", "64 x 64 x 3 values")
def three_bands_that_are_no_colours(raw):
    write = tif(lambda x: np.stack([real32(x)] * 3, -1), photometric="minisblack", planarconfig="contig")
    return own(raw, write)


@odd("refused", "9 x 64 x 3 values")
def nine_narrow_pages(raw):
    return own(raw, tif(lambda x: np.stack([eight(x)[:, :3]] * 9), photometric="minisblack"))


@odd("refused", "an array of shape \\(64, 64, 4\\)")
def four_channels_in_numpy(raw):
    return own(raw, lambda p, x: np.save(p, np.stack([x] * 4, -1)), ".npy")


@odd("refused", f"at most {MOST_PIXELS} pixels")
def decompression_bomb(raw):
    own(raw, lambda p, x: save(p, eight(x)), ".png")
    content = bytearray((raw / "normal" / "n0.png").read_bytes())
    content[16:24] = struct.pack(">II", 60000, 60000)
    content[29:33] = struct.pack(">I", __import__("zlib").crc32(content[12:29]))
    (raw / "normal" / "n0.png").write_bytes(content)
    return "folder"


# Grey scale and absent data.
@odd("repaired", "decibels")
def decibels_throughout(raw):
    return own(raw, tif(decibels))


@odd("repaired", "decibels")
def decibels_with_a_few_positive_pixels(raw):
    def write(path, x):
        y = decibels(x)
        y[2:6, 2:6] = 15.0
        tifffile.imwrite(path, y)

    return own(raw, write)


@odd("reads", black=-25.0, white=0.0)
def decibels_with_black_and_white_given(raw):
    return own(raw, tif(decibels))


for name, convert, tags in [
    ("nan_border", bordered(real32, np.nan), {}),
    ("minus_infinity", bordered(decibels, -np.inf), {}),
    ("gdal_nodata_1e20", bordered(real32, 1e20), nodata("1e+20")),
    ("gdal_nodata_minus_9999", bordered(real32, -9999), nodata("-9999")),
    ("gdal_nodata_as_float32_writes_it", bordered(real32, -3.4028235e38), nodata("-3.4028234663852886e+38")),
    ("gdal_nodata_65535", bordered(sixteen, 65535), nodata("65535")),
    ("gdal_nodata_0", bordered(sixteen, 0), nodata("0")),
    ("gdal_nodata_of_8_bit", bordered(eight, 200), nodata("200")),
    ("zeros_at_the_border_without_a_tag", bordered(sixteen, 0), {}),
]:

    def case(raw, convert=convert, tags=tags):
        return own(raw, tif(convert, **tags))

    case.__name__ = name
    odd("repaired", "hold no data", removal="mask", dilation=3)(case)


@odd("reads")
def a_nodata_tag_that_is_no_number(raw):
    return own(raw, tif(sixteen, **nodata("n/a")))


@odd("refused", "pixels with data, found none")
def nothing_but_nan(raw):
    own(raw, tif(real32))
    tifffile.imwrite(raw / "normal" / "n0.tif", np.full((64, 64), np.nan, np.float32))
    return "folder"


for first in (np.uint8, np.uint16):

    @odd("refused", "one number type")
    def mixed_depths(raw, first=first):
        def write(path, x):
            tifffile.imwrite(path, eight(x) if (path.stem == "n0") == (first is np.uint8) else sixteen(x))

        return own(raw, write)


@odd("refused", "a black and a white, found 0 and 9.9")
def all_black_floats(raw):
    return own(raw, lambda p, x: np.save(p, np.where(x > 99, x, 1e-320)), ".npy", masks=False)


@odd("refused", "one number type", white=255.0)
def a_mix_with_white_given(raw):
    return own(raw, lambda p, x: tifffile.imwrite(p, eight(x) if p.stem == "n0" else sixteen(x)))


# Folders and names.
@odd("repaired", "'.bmp files': 3, '.jp2 files': 1, 'sub-folders': 1")
def files_that_are_not_read(raw):
    own(raw, lambda p, x: save(p, eight(x)), ".png")
    for i in range(3):
        save(raw / "normal" / f"b{i}.bmp", eight(scene(i)))
    (raw / "normal" / "more").mkdir()
    (raw / "anomalous" / "x.jp2").write_bytes(b"jp2")
    return "folder"


@odd("refused", "found 2 .bmp files")
def nothing_but_bmp(raw):
    return own(raw, lambda p, x: save(p, eight(x)), ".bmp", masks=False)


@odd("refused", "no such folder beside Anomalous, Normal")
def folders_of_other_names(raw):
    own(raw, lambda p, x: save(p, eight(x)), ".png", masks=False)
    for name in ("normal", "anomalous"):
        (raw / name).rename(raw / "x")
        (raw / "x").rename(raw / name.capitalize())
    return "folder"


@odd("repaired", "normal and anomalous at once, among them normal/n0.png and anomalous/a0.png")
def an_image_that_is_normal_and_anomalous(raw):
    own(raw, lambda p, x: save(p, eight(x)), ".png")
    (raw / "normal" / "n0.png").write_bytes((raw / "anomalous" / "a0.png").read_bytes())
    return "folder"


@odd("repaired", "'broken links': 1, 'hidden files': 2, 'sub-folders': 1")
def links_hidden_files_and_a_folder_named_like_an_image(raw):
    own(raw, lambda p, x: save(p, eight(x)), ".png")
    (raw / "normal" / "z.png").symlink_to("/nowhere/x.png")
    (raw / "normal" / "._n0.png").write_bytes(b"\0\5\26\7")
    (raw / "normal" / ".DS_Store").write_bytes(b"x")
    (raw / "normal" / "dir.png").mkdir()
    return "folder"


@odd("reads")
def names_in_other_scripts(raw):
    own(raw, lambda p, x: save(p, eight(x)), ".png", masks=False)
    for name in ("fähre ü", "名前", 'a,b"c', "-dash", "#hash%20", "2021-01-01T12:00:00"):
        save(raw / "anomalous" / f"{name}.png", eight(scene(5, True)))
    return "folder"


@odd("reads")
def accents_written_in_two_ways(raw):
    own(raw, lambda p, x: save(p, eight(x)), ".png")
    for kind, form in (("anomalous", "NFD"), ("masks", "NFC")):
        (raw / kind / "a0.png").rename(raw / kind / unicodedata.normalize(form, "fähre.png"))
    return "folder"


@odd("refused", "a plain name of at most 240 bytes, found 'line")
def a_line_feed_in_a_name(raw):
    own(raw, lambda p, x: save(p, eight(x)), ".png", masks=False)
    save(raw / "anomalous" / "line\nbreak.png", eight(scene(5, True)))
    return "folder"


@odd("reads")
def one_row_of_pixels(raw):
    return own(raw, lambda p, x: save(p, eight(x)[:1]), ".png", masks=False)


@odd("refused", "a mask, which says what tiles show targets", tile_size=32)
def tiles_of_images_without_masks(raw):
    return own(raw, lambda p, x: save(p, eight(x)), ".png", masks=False)


@odd("repaired", "tiles that hold no data", tile_size=32)
def tiles_in_an_empty_border(raw):
    return own(raw, tif(bordered(sixteen, 0, 36)), masks=False) and masks_below(raw)


def masks_below(raw):
    mask = np.zeros((64, 64), np.uint8)
    mask[40:48, 40:48] = 255
    for i in range(2):
        save(raw / "masks" / f"a{i}.png", mask)
    return "folder"


# MSTAR.
def put(raw, name, content):
    (raw / name).parent.mkdir(parents=True, exist_ok=True)
    (raw / name).write_bytes(content)
    return "mstar"


@odd("reads")
def phoenix_without_the_line_feed(raw):
    return put(raw, "HB1.015", phoenix(chip(1) / 510, chip(1) * 0, first=""))


@odd("reads")
def phoenix_after_two_line_feeds(raw):
    return put(raw, "HB1.015", phoenix(chip(1) / 510, chip(1) * 0, first="\r\n\n"))


@odd("repaired", "slicey, none of the ten classes': 1")
def slicy_beside_vehicles(raw):
    put(raw, "SLICY/HB2.015", phoenix(chip(2)[:54, :54] / 510, chip(2)[:54, :54] * 0, "slicey", "1", 15))
    return put(raw, "T72/HB1.015", phoenix(chip(1) / 510, chip(1) * 0))


@odd("refused", "none of the ten classes")
def nothing_but_slicy(raw):
    return put(raw, "HB2.015", phoenix(chip(2)[:54, :54] / 510, chip(2)[:54, :54] * 0, "slicey", "1", 15))


@odd("repaired", "image chips, for there are raw ones': 1")
def a_jpeg_beside_the_raw_chip(raw):
    save(raw / "HB1.jpeg", chip(1))
    return put(raw, "HB1.015", phoenix(chip(1) / 510, chip(1) * 0))


@odd("refused", "Chip_MD5_CheckSum")
def a_flipped_bit(raw):
    content = bytearray(phoenix(chip(1) / 510, chip(1) * 0))
    content[-7] ^= 1
    return put(raw, "HB1.015", content)


@odd("repaired", "'.txt files that are no chips': 1, 'BMP2 serial c21': 1, 'depression 30': 1")
def image_chips_as_the_cds_have_them(raw):
    for folder in ("17_DEG/T72/SN_132", "15_DEG/BMP2/SN_9563", "17_DEG/BMP2/SN_C21", "30_DEG/T72/SN_132"):
        save(raw / "TARGETS" / folder / "170501" / "hb1.jpg", chip(1))
    put(raw, "readme.txt", b"read me")
    return "mstar"


@odd("reads")
def image_chips_with_the_split_below_the_class(raw):
    save(raw / "T72" / "train" / "hb1.jpg", chip(1))
    save(raw / "ZSU_23_4" / "Test" / "hb1.jpg", chip(2))
    return "mstar"


@odd("refused", "none of the ten classes|1 x pictures")
def pictures_of_something_else(raw):
    save(raw / "train" / "pictures" / "cat.jpg", chip(1))
    return "mstar"


@odd("refused", "slicey|none of the ten classes")
def a_target_type_that_leads_out_of_the_folder(raw):
    return put(raw, "HB1.015", phoenix(chip(1) / 510, chip(1) * 0, "../../../escaped/x"))


@odd("reads")
def a_target_type_that_begins_like_a_class(raw):
    return put(raw, "HB1.015", phoenix(chip(1) / 510, chip(1) * 0, "t72/../../../escaped"))


# SSDD and HRSID.
@odd(
    "repaired",
    "PSeg_SSDD/voc_style'.*'other trees of the release': 2",
)
def ssdd_the_whole_archive(raw):
    base = releases.ssdd(raw) / "Official-SSDD-OPEN" / "Official-SSDD-OPEN"
    for name in ("BBox_SSDD", "BBox_RBox_PSeg_SSDD"):
        for split in ("train", "test"):
            for path in (base / "PSeg_SSDD" / "voc_style" / f"JPEGImages_{split}").iterdir():
                save(base / name / "voc_style" / path.parent.name / path.name, water(1)[:100])
    return "ssdd"


def annotated(raw, changes, name="P0001_0_160_0_160.jpg"):
    """HRSID with one annotation changed: None removes a key."""
    releases.hrsid(raw)
    path = raw / "HRSID_JPG" / "annotations" / "train2017.json"
    content = json.loads(path.read_text())
    annotation = content["annotations"][0] | {"bbox": [30, 20, 20, 8]} | changes
    content["annotations"][0] = {key: value for key, value in annotation.items() if value is not None}
    path.write_text(json.dumps(content))
    return "hrsid"


RLE = {"counts": [10, 5, 160 * 160 - 15], "size": [160, 160]}
OUTSIDE = [[300, 300, 340, 300, 340, 320]]
for name, segmentation in [
    ("no_polygon", []),
    ("no_segmentation", None),
    ("an_empty_polygon", [[]]),
    ("two_numbers", [[40, 40]]),
    ("four_numbers", [[40, 40, 80, 60]]),
    ("an_odd_number", [SHIP[:7]]),
    ("one_point_thrice", [[50, 50] * 3]),
    ("a_thin_line", [[30, 20.2, 50, 20.2, 50, 20.3, 30, 20.3]]),
    ("a_polygon_outside", OUTSIDE),
    ("run_lengths", RLE),
    ("run_lengths_as_text", {"counts": "abc", "size": [160, 160]}),
]:

    @odd("repaired", "boxes stand in")
    def polygon(raw, segmentation=segmentation):
        return annotated(raw, {"segmentation": segmentation})

    CASES[-1] = pytest.param(*CASES[-1].values, id=f"{name}-repaired")

    @odd("refused", "annotation 0")
    def polygon_without_a_box(raw, segmentation=segmentation):
        return annotated(raw, {"segmentation": segmentation, "bbox": None})

    CASES[-1] = pytest.param(*CASES[-1].values, id=f"{name}_and_no_box-refused")

for value in (float("nan"), float("inf"), 1e12, -1e7):

    @odd("refused", "train2017.json: expected coordinates within 100000 px in annotation 0")
    def coordinate(raw, value=value):
        return annotated(raw, {"segmentation": [[value, *SHIP[1:]]]})

    CASES[-1] = pytest.param(*CASES[-1].values, id=f"coordinate_{value}-refused")


@odd("refused", "x, y, width, height")
def a_box_without_area(raw):
    return annotated(raw, {"segmentation": [], "bbox": [30, 20, 0, 8]})


@odd("reads")
def a_polygon_partly_outside(raw):
    return annotated(raw, {"segmentation": [[-50, -50, 20, -50, 20, 20, -50, 20]]})


@odd("refused", "200x160 px")
def annotations_of_another_size(raw):
    releases.hrsid(raw)
    path = raw / "HRSID_JPG" / "annotations" / "train2017.json"
    path.write_text(path.read_text().replace('"width": 160', '"width": 200'))
    return "hrsid"


@odd("reads")
def a_path_before_the_name_and_a_byte_order_mark(raw):
    releases.hrsid(raw)
    path = raw / "HRSID_JPG" / "annotations" / "train2017.json"
    content = path.read_text().replace('"P0001', '"JPEGImages/P0001')
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    return "hrsid"


@odd("refused", "COCO annotations")
def annotations_nested_without_end(raw):
    releases.hrsid(raw)
    (raw / "HRSID_JPG" / "annotations" / "train2017.json").write_text("[" * 100_000)
    return "hrsid"


@odd("refused", "also JPEGImages/P0003_0_160_0_160.jpg; rename or remove one")
def an_image_in_both_splits(raw):
    releases.hrsid(raw)
    path = raw / "HRSID_JPG" / "annotations" / "train2017.json"
    path.write_text(path.read_text().replace("P0001", "P0003"))
    return "hrsid"


@odd("refused", "test2017.json.*unpack the whole release")
def no_annotations_of_the_test_split(raw):
    releases.hrsid(raw)
    (raw / "HRSID_JPG" / "annotations" / "test2017.json").unlink()
    return "hrsid"


# Parameters.
for dataset, name, value, text in [
    ("mstar", "crop", 0, "crop: expected greater than or equal to 8, found 0"),
    ("mstar", "closing", 0, "closing: expected greater than or equal to 1"),
    ("mstar", "shadow_clusters", 1, "greater than or equal to 2"),
    ("mstar", "target_sigma", -1, "greater than 0"),
    ("mstar", "white", float("nan"), "a finite number"),
    ("hrsid", "tile_size", "abc", "a valid integer"),
    ("hrsid", "overlap", 3, "an overlap of at most half of tile_size"),
    ("ssdd", "dilation", 100_000, "less than or equal to 1001"),
    ("ssdd", "removal", "inpaint", "'mask', 'kmeans' or 'none'"),
    ("ssdd", "seed", -1, "seed: expected greater than or equal to 0"),
    ("ssdd", "processes", 0, "processes: expected greater than or equal to 1"),
    ("demo_sea", "scenes", 10**9, "less than or equal to 9999"),
    ("folder", "train_share", 1.5, "less than or equal to 1"),
]:

    @odd("refused", text, **{name: value})
    def parameter(raw, dataset=dataset):
        return dataset

    CASES[-1] = pytest.param(*CASES[-1].values, id=f"{dataset}_{name}_{value}-refused")


@pytest.mark.parametrize(("make", "outcome", "text", "parameters"), CASES)
def test_odd_input(tmp_path, make, outcome, text, parameters):
    raw, out = tmp_path / "in" / "raw", tmp_path / "in" / "out"
    raw.mkdir(parents=True)
    dataset = make(raw)
    if outcome == "refused":
        with pytest.raises(DataError, match=text) as error:
            prepare(dataset, raw, out, **parameters)
        message = str(error.value)
        assert "\n" not in message and ": expected " in message and ", found " in message and "; " in message
        assert not (out / "manifest.csv").exists() and not list(tmp_path.rglob("*.tmp"))
    else:
        table = read_manifest(prepare(dataset, raw, out, **parameters), verify=True)
        report = json.loads((out / "preparation.json").read_text())["report"]
        noted = any(report.get(key) for key in ("left_out", "notes", "doubts"))
        assert noted == (outcome == "repaired")
        if outcome == "repaired":
            assert re.search(text, str(report)), report
        if dataset == "folder" and "tile_size" not in parameters:
            check_levels(out, table)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    assert {p.name for p in (tmp_path / "in").iterdir()} <= {"raw", "out"}


def check_levels(out, table):
    """Targets are brighter than what is around them, which is neither black nor white; so is their fill."""
    for row in table[table["label"] == "anomalous"].to_dict("records"):
        image = cv2.imread(str(out / row["path"]), 0)
        if not row["mask"]:
            continue
        mask = cv2.imread(str(out / row["mask"]), 0) > 0
        data = image[~mask][image[~mask] > 0]
        assert 5 < np.median(data) < 180 or set(np.unique(image)) == {0, 255}
        assert image[mask].mean() > max(np.mean(image[~mask]) + 60, 150)
        filled = out / row["path"].replace("anomalous", "normal")
        if filled.exists():
            inside = cv2.imread(str(filled), 0)[mask]
            assert (inside == 0).mean() < 0.05 and np.median(inside) < 1.5 * np.median(data)


def test_how_many_are_read_refused_repaired():
    counts = {
        name: sum(case.values[1] == name for case in CASES) for name in ("reads", "refused", "repaired")
    }
    assert len(CASES) >= 100 and min(counts.values()) >= 25, counts


def test_without_masks_there_is_no_folder_of_them(tmp_path):
    own(tmp_path / "raw", lambda p, x: save(p, eight(x)), ".png", masks=False)
    for again in ("kmeans", "none"):  # what an earlier run wrote goes too
        options = {"removal": again, "closing": 3, "target_growth": 1}
        out = prepare("folder", tmp_path / "raw", tmp_path / "out", **options)
        assert (out / "masks").exists() == (again == "kmeans")
    assert not (out / "masks").exists() and (read_manifest(out)["mask"] == "").all()


def test_tiles_of_an_own_folder_are_the_image_to_its_edges(tmp_path):
    own(tmp_path / "raw", lambda p, x: save(p, eight(x)), ".png")
    out = prepare(
        "folder", tmp_path / "raw", tmp_path / "out", tile_size=24, overlap=4, removal="mask", dilation=1
    )
    table = read_manifest(out)
    for name in ("a0", "a1"):
        whole = cv2.imread(str(tmp_path / "raw" / "anomalous" / f"{name}.png"), 0)
        seen = np.zeros_like(whole)
        for row in table[table["source"].str.startswith(f"anomalous/{name}.png#")].to_dict("records"):
            top, left = map(int, row["source"].split("#r")[1].split("c"))
            tile, part = cv2.imread(str(out / row["path"]), 0), whole[top : top + 24, left : left + 24]
            if row["label"] == "anomalous":
                assert (cv2.imread(str(out / row["mask"]), 0) > 0).any()
            if row["label"] == "anomalous" or not (part >= 250).any():
                np.testing.assert_array_equal(tile, part)
            seen[top : top + 24, left : left + 24] = 1
        assert seen.all()
