"""The real releases, where PADIM_ACE_DATA says they are: small parts of each."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from data_prep import prepare, read_manifest
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
