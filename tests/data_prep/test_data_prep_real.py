"""The real releases, where PADIM_ACE_DATA says they are: small parts of each."""

import hashlib
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from data_prep import DATASETS, prepare, read_manifest
from data_prep.datasets import coco, hrsid, mstar, ssdd
from data_prep.images import read_grey8, read_mask

DATA = os.environ.get("PADIM_ACE_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="PADIM_ACE_DATA is not set: no real data")


def real(name):
    folder = Path(DATA) / name
    if not folder.is_dir():
        pytest.skip(f"PADIM_ACE_DATA has no {name}")
    return folder


def test_mstar_is_the_standard_set():
    items, report = mstar.items(real("MSTAR"), mstar.Parameters())
    assert len(items) >= 5171 and {item.category for item in items} == set(mstar.SOC_COUNTS)
    assert all(
        pair["found"] >= pair["standard"] - 1
        for pair in report["unlike_standard_operating_conditions"].values()
    )


def test_mstar_part(tmp_path):
    root = real("MSTAR")
    for name in ("2S1", "BRDM_2", "ZSU_23_4"):
        for split in ("train", "test"):
            target = tmp_path / "raw" / split / name
            target.mkdir(parents=True)
            for path in sorted((root / split / name).iterdir())[:8]:
                shutil.copy(path, target)
    table = read_manifest(prepare("mstar", tmp_path / "raw", tmp_path / "out", processes=2), verify=True)
    assert table.groupby(["class", "split", "label"]).size().tolist() == [8] * 12
    anomalous = table[table["label"] == "anomalous"]
    for row in anomalous.to_dict("records"):
        before = read_grey8(tmp_path / "out" / row["path"])
        after = read_grey8(tmp_path / "out" / row["path"].replace("anomalous", "normal"))
        mask = read_mask(tmp_path / "out" / row["mask"], before.shape)
        assert 0.05 < mask.mean() < 0.6
        smooth = gaussian_filter(before.astype(float), 2)[30:98, 30:98]  # the target is centred
        peak = np.unravel_index(np.argmax(smooth), smooth.shape)
        assert mask[30 + peak[0], 30 + peak[1]]
        np.testing.assert_array_equal(before[~mask], after[~mask])
        assert np.percentile(after, 99.5) < np.percentile(before, 99.5)  # the bright target is gone


def test_ssdd_masks_are_the_polygons_and_duplicates_are_known():
    raw = real("SSDD")
    items, report = ssdd.items(raw, ssdd.Parameters())
    assert len(items) == 1160 and len(report["duplicate_groups_across_splits"]) == 10
    known = (raw / "duplicates.txt").read_text().split("# near")[0].splitlines()[1:]
    assert {tuple(sorted(group)) for group in report["duplicate_groups"]} == {
        tuple(sorted(line.split())) for line in known
    }
    base = next(raw.glob("**/PSeg_SSDD"))
    polygons = coco.read_outlines(
        base / "coco_style/annotations/test.json", {Path(i.source).name for i in items}
    )
    for item in [item for item in items if item.split == "test"][:20]:
        shape = read_grey8(item.files[0]).shape
        drawn, kept = coco.draw(polygons[Path(item.source).name], shape)[0], read_mask(item.files[1], shape)
        assert np.sum(drawn & kept) / np.sum(drawn | kept) > 0.85


def test_ssdd_kmeans_leaves_ships_behind(tmp_path):
    root = next(real("SSDD").glob("**/PSeg_SSDD"))
    for path in sorted((root / "voc_style/JPEGImages_train").iterdir())[:24]:
        for part in ("JPEGImages_train", "JPEGImages_test", "JPEGImages_PSeg_GT_Mask"):
            (tmp_path / "raw/PSeg_SSDD/voc_style" / part).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "raw/PSeg_SSDD/voc_style/JPEGImages_train")
        mask = root / "voc_style/JPEGImages_PSeg_GT_Mask" / f"{path.stem}.png"
        shutil.copy(mask, tmp_path / "raw/PSeg_SSDD/voc_style/JPEGImages_PSeg_GT_Mask")
    out = prepare("ssdd", tmp_path / "raw", tmp_path / "out", removal="kmeans", processes=2)
    covered = json.loads((out / "preparation.json").read_text())["report"]["target_pixels_removed"][
        "mean_share"
    ]
    assert 0.4 < covered < 0.95
    assert len(read_manifest(out)) == 48


def test_hrsid_tiles(tmp_path):
    raw = real("HRSID")
    out = prepare("hrsid", raw, tmp_path / "out", tile_size=200, processes=2)
    table = read_manifest(out)
    items, _ = hrsid.items(raw, hrsid.Parameters())
    assert len(table) == 16 * len(items)
    ships = sum(coco.draw(item.extra, (800, 800))[0].sum() for item in items if item.extra)
    kept = sum(np.count_nonzero(read_mask(out / name, (200, 200))) for name in table["mask"] if name)
    assert kept == ships and (table["label"] == "anomalous").sum() >= 36


def test_raw_chips_are_read_bit_for_bit():
    for path, target, shape in [
        ("BMP2/HB03787.000", "bmp2_tank", (128, 128)),
        ("T72/HB03787.015", "t72_tank", (128, 128)),
        ("SLICY/HB14931.015", "slicey", (54, 54)),
    ]:
        path = real("MSTAR_raw") / path
        content, read, header = path.read_bytes(), mstar.read_phoenix(path), mstar.read_header(path)
        assert content.startswith(b"\n[PhoenixHeaderVer") and header["TargetType"] == target
        size = shape[0] * shape[1]
        words = struct.unpack(f">{2 * size}f", content[-8 * size :])  # the data are the end of the file
        assert read.shape == (2, *shape) and read.dtype == np.float32
        assert read.ravel().tolist() == list(words)
        assert hashlib.md5(content[-8 * size :]).hexdigest() == header["Chip_MD5_CheckSum"]


def test_a_raw_chip_and_its_jpeg_prepare_alike(tmp_path):
    shutil.copytree(real("MSTAR_raw"), tmp_path / "raw")
    for name in ("T72", "BMP2"):
        (tmp_path / "jpeg" / "train" / name).mkdir(parents=True)
        shutil.copy(real("MSTAR") / "train" / name / "hb03787.jpeg", tmp_path / "jpeg" / "train" / name)
    tables = {}
    for name, white in (("raw", {}), ("jpeg", {}), ("stretched", {"white": None})):
        raw = tmp_path / ("raw" if name == "stretched" else name)
        tables[name] = read_manifest(prepare("mstar", raw, tmp_path / f"out-{name}", **white))
    report = json.loads((tmp_path / "out-raw" / "preparation.json").read_text())["report"]
    assert report["left_out"] == {"slicey, none of the ten classes": 1}
    assert tables["raw"]["class"].tolist() == tables["jpeg"]["class"].tolist() == ["BMP2", "T72"] * 2

    def read(name, column, row):
        return read_grey8(tmp_path / f"out-{name}" / tables[name][column].iloc[row]).astype(float)

    for row in range(2):
        ours, theirs, stretched = (read(name, "path", row) for name in tables)
        assert abs(np.median(ours) - np.median(theirs)) <= 1 and np.abs(ours - theirs).mean() < 5
        assert abs(ours.mean() - theirs.mean()) < 0.5 < abs(stretched.mean() - theirs.mean())
        a, b = (read(name, "mask", row) > 0 for name in ("raw", "jpeg"))
        assert (a & b).sum() / (a | b).sum() > 0.8


def test_raw_chips_beside_the_release_are_none_of_it(tmp_path):
    for name in ("MSTAR", "MSTAR_raw"):
        real(name)
    (tmp_path / "MSTAR").symlink_to(Path(DATA) / "MSTAR" / "test")
    (tmp_path / "MSTAR_raw").symlink_to(Path(DATA) / "MSTAR_raw")
    found = DATASETS["mstar"].find(tmp_path, tmp_path / "out")
    assert found == tmp_path / "MSTAR"
