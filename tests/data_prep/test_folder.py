"""A user's own data: formats, depths, colours, splits."""

import cv2
import numpy as np
import pytest
import tifffile
from fakes.releases import save, water
from PIL import Image

from data_prep import DataError, prepare, read_manifest
from data_prep.datasets import folder
from data_prep.images import read_mask, read_values

RAMP = (np.arange(48).reshape(6, 8) * 5 + 1).astype(np.uint8)


def own(root, suffix=".png", convert=lambda image: image, masks=True):
    for i in range(4):
        save_any(root / "normal" / f"n{i}{suffix}", convert(water(i, 64)))
        image = water(10 + i, 64)
        image[20:30, 20:30] = 240
        save_any(root / "anomalous" / f"a{i}{suffix}", convert(image))
        if masks:
            mask = np.zeros((64, 64), np.uint8)
            mask[20:30, 20:30] = 1
            save(root / "masks" / f"a{i}.png", mask)
    return root


def save_any(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, image)
    else:
        cv2.imwrite(str(path), image)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_formats(tmp_path, suffix):
    out = prepare("folder", own(tmp_path / "raw", suffix), tmp_path / "out")
    table = read_manifest(out, verify=True)
    assert table.groupby(["label", "split", "class"]).size().to_dict() == {
        ("anomalous", "test", "target"): 2,
        ("anomalous", "train", "target"): 2,
        ("normal", "train", "background"): 4,
    }
    image = cv2.imread(str(out / "anomalous" / "a0.png"), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint8 and image.shape == (64, 64) and image[22:28, 22:28].min() > 220


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", RAMP),
        ("rgb.png", np.dstack([RAMP] * 3)),
        ("rgba.png", np.dstack([RAMP] * 3 + [RAMP * 0 + 255])),
        ("grey16.png", RAMP.astype(np.uint16) * 257),
        ("rgb16.png", np.dstack([RAMP] * 3).astype(np.uint16) * 257),
        ("grey.tif", RAMP),
        ("grey16.tif", RAMP.astype(np.uint16) * 257),
        ("rgb16.tif", np.dstack([RAMP] * 3).astype(np.uint16) * 257),
        ("float.tif", RAMP.astype(np.float32)),
        ("float.npy", RAMP.astype(np.float64)),
        ("complex.npy", RAMP * np.exp(1j * 0.3)),
        ("onechannel.npy", RAMP[None]),
    ],
)
def test_every_kind_reads_as_the_same_grey_image(tmp_path, name, image):
    save_any(tmp_path / name, image)
    read, valid = read_values(tmp_path / name)
    assert valid is None
    np.testing.assert_allclose(read / (257 if read.dtype == np.uint16 else 1), RAMP, atol=1e-4)


def test_colour_becomes_luminance_and_palettes_their_grey(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    path = save(tmp_path / "c.png", colours)
    grey = np.asarray(Image.fromarray(colours).convert("L"))
    np.testing.assert_allclose(read_values(path)[0], grey, atol=1)
    Image.fromarray(RAMP).convert("P").save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_values(tmp_path / "p.png")[0], RAMP)


def test_masks_of_ones_of_colours_and_of_palettes(tmp_path):
    mask = RAMP > 100
    red = np.zeros((6, 8, 3), np.uint8)
    red[mask, 0] = 128
    palette = Image.fromarray(mask.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "palette.png")
    save(tmp_path / "ones.png", mask.astype(np.uint8))
    save(tmp_path / "red.png", red)
    np.save(tmp_path / "bool.npy", mask)
    for name in ("palette.png", "ones.png", "red.png", "bool.npy"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, (6, 8)), mask)


def test_16_bit_levels_are_scaled_by_one_white_for_all(tmp_path):
    def deep(image):
        return image.astype(np.uint16) * 8

    deep_out = prepare("folder", own(tmp_path / "deep", ".png", deep), tmp_path / "a", white=255 * 8.0)
    flat_out = prepare("folder", own(tmp_path / "flat"), tmp_path / "b")
    for name in ("anomalous/a0.png", "normal/normal_n1.png"):
        np.testing.assert_array_equal(cv2.imread(str(deep_out / name)), cv2.imread(str(flat_out / name)))
    found = folder.items(tmp_path / "deep", folder.Parameters())[1]["white"]
    levels = [
        np.percentile(read_values(path)[0], 99.9) for path in sorted((tmp_path / "deep").glob("[na]*/*.png"))
    ]
    assert found == np.median(levels)


def test_masks_may_be_missing_and_kmeans_then_makes_them(tmp_path):
    raw = own(tmp_path / "raw", masks=False)
    table = read_manifest(prepare("folder", raw, tmp_path / "a"))
    assert (table["mask"] == "").all()
    table = read_manifest(
        prepare("folder", raw, tmp_path / "b", removal="kmeans", closing=5, target_growth=2.0)
    )
    assert (table["label"] == "normal").sum() == 8 and (table["mask"] != "").sum() == 4


def test_normals_can_be_made_by_mask_alone(tmp_path):
    raw = own(tmp_path / "raw")
    for path in (raw / "normal").iterdir():
        path.unlink()
    (raw / "normal").rmdir()
    table = read_manifest(prepare("folder", raw, tmp_path / "out", removal="mask", dilation=3))
    assert table.groupby("label").size().to_dict() == {"anomalous": 4, "normal": 4}


def test_a_scene_is_named_by_the_path(tmp_path):
    raw = own(tmp_path / "raw")
    (raw / "normal" / "n0.png").rename(raw / "normal" / "a0.png")
    table = read_manifest(prepare("folder", raw, tmp_path / "out")).set_index("path")["scene"]
    assert table["normal/normal_a0.png"] == table["anomalous/a0.png"] == "a0" and table.nunique() == 7
    table = read_manifest(prepare("folder", raw, tmp_path / "out", scene=r"/[an](\d)")).set_index("path")[
        "scene"
    ]
    assert table["normal/normal_n3.png"] == table["anomalous/a3.png"] == "3" and table.nunique() == 4
    for pattern, said in (
        ("(", "scene: expected a regular expression"),
        ("a[0-9]", "expected a regular expression with a group"),
        ("/(n[0-9])", "normal/a0.png: expected a path in which '/[(]n.*change the parameter scene"),
    ):
        with pytest.raises(DataError, match=said) as error:
            prepare("folder", raw, tmp_path / "other", scene=pattern)
        assert "\n" not in str(error.value)


def test_splits_by_folder(tmp_path):
    raw = own(tmp_path / "raw")
    for i in range(4):
        path = raw / "anomalous" / f"a{i}.png"
        target = raw / "anomalous" / ("train" if i == 0 else "test") / path.name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    table = read_manifest(prepare("folder", raw, tmp_path / "out"))
    of = table[table["label"] == "anomalous"].set_index("source")["split"]
    assert of["anomalous/train/a0.png"] == "train" and (of == "test").sum() == 3


def test_odd_sizes_are_kept(tmp_path):
    raw = own(tmp_path / "raw")
    save(raw / "normal" / "odd.png", water(1, 70)[:65, :33])
    table = read_manifest(prepare("folder", raw, tmp_path / "out")).set_index("path")
    assert tuple(table.loc["normal/normal_odd.png", ["width", "height"]]) == (33, 65)


def test_a_mix_of_depths_is_refused(tmp_path):
    raw = own(tmp_path / "raw")
    cv2.imwrite(str(raw / "normal" / "deep.png"), RAMP.astype(np.uint16))
    with pytest.raises(DataError, match="one number type"):
        folder.items(raw, folder.Parameters())
