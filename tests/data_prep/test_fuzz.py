"""Hypothesis makes headers, annotations and archives: one line or a result, and no file outside."""

import io
import json
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from fakes.releases import SHIP, chip, coco, phoenix, save, water
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_prep import DataError, prepare
from data_prep.archives import unpack
from data_prep.datasets import coco as annotations
from data_prep.datasets import mstar

FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
SLOW = settings(FUZZ, max_examples=25)
CHIP = chip(3)[:32, :32]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12)
NASTY = st.sampled_from(
    [".", "..", "/", "../evil", "/evil", "a/../../evil", "c:\\evil", "..\\evil", "", " ", "a/b"]
)


def attempt(work):
    """The result of `work`, or None after an error, which must be one line."""
    try:
        return work()
    except DataError as error:
        text = str(error)
        assert "\n" not in text and ": expected " in text and ", found " in text and "; " in text
        return None


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


@SLOW
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "TargetType": NAMES | NASTY | st.just("t72_tank"),
            "TargetSerNum": NAMES | NASTY,
            "DesiredDepression": NAMES | st.floats().map(str) | st.just("1e999"),
            "NumberOfRows": NAMES | st.integers().map(str) | st.just("٣٢"),
            "PhoenixHeaderLength": st.integers(0, 10**13).map(str),
            "native_header_length": st.sampled_from(["0", "512", "-1", "x"]),
            "Chip_MD5_CheckSum": NAMES,
        },
    )
)
@example({"TargetType": "../../../escaped/x"})
@example({"TargetType": "t72/../../../escaped"})
def test_phoenix_headers(overrides):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "a/b/raw").mkdir(parents=True)
        (root / "a/b/raw/HB1.015").write_bytes(phoenix(CHIP / 510, CHIP * 0, **overrides))
        attempt(
            lambda: prepare(
                "mstar", root / "a/b/raw", root / "a/b/out", crop=None, closing=5, target_growth=1
            )
        )
        assert all(name.startswith(("a/b/raw/", "a/b/out/")) for name in files(root))


@FUZZ
@given(st.binary(max_size=60), st.integers(0, 400), st.booleans())
def test_bytes_that_begin_like_a_phoenix_file(noise, place, cut):
    content = bytearray(phoenix(CHIP / 510, CHIP * 0))
    content[place : place if cut else place + len(noise)] = noise
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        read = attempt(lambda: mstar.read_phoenix(Path(file.name)))
        assert read is None or np.isfinite(read[0]).all()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=3), part, max_size=3),
    max_leaves=8,
)
NUMBER = st.floats(-400, 400) | st.sampled_from([float("nan"), float("inf"), 1e12, -1e7, 10**400, "7", None])
POLYGON = st.lists(NUMBER, max_size=9) | st.just(SHIP)
CONTENT = json.loads(coco({"x.png": [SHIP]}, (48, 64)))


@FUZZ
@given(
    st.lists(POLYGON, max_size=3) | JSON,
    st.lists(NUMBER, max_size=5) | JSON,
    st.sampled_from(["image_id", "id", "segmentation", "bbox", "nothing"]),
)
def test_annotations(segmentation, box, dropped):
    annotation = CONTENT["annotations"][0] | {"segmentation": segmentation, "bbox": box}
    annotation.pop(dropped, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.json"
        path.write_text(json.dumps(CONTENT | {"annotations": [annotation]}))

        def mask():
            (outlines,) = annotations.read_outlines(path, {"x.png"}).values()
            return annotations.draw(outlines, (48, 64))[0]

        drawn = attempt(mask)
        assert drawn is None or (drawn.shape == (48, 64) and drawn.any())  # a ship never vanishes


@FUZZ
@given(JSON, st.sampled_from(["all", "images", "annotations"]))
def test_any_json(content, part):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.json"
        path.write_text(json.dumps(content if part == "all" else CONTENT | {part: content}))
        attempt(lambda: annotations.read_outlines(path, {"x.png"}))


@FUZZ
@given(st.lists(NAMES | NASTY, min_size=1, max_size=4), st.booleans())
@example(["\0"], True)
@example(["."], True)
@example(["."], False)
def test_archive_members(names, zipped):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        archive, out = root / "archive", root / "in" / "out"
        if zipped:
            with zipfile.ZipFile(archive, "w") as file:
                for name in names:
                    file.writestr(zipfile.ZipInfo(name or "empty"), b"x")
        else:
            with tarfile.open(archive, "w") as tar:
                for name in names:
                    info = tarfile.TarInfo(name)
                    info.size = 1
                    tar.addfile(info, io.BytesIO(b"x"))
        done = attempt(lambda: unpack(archive, out))
        inside = [name for name in files(root) if name != "archive"]
        assert all(name.startswith("in/out/") for name in inside)
        assert len(inside) == len(set(done or []))


@SLOW
@given(
    st.binary(min_size=1, max_size=200), st.integers(0, 3000), st.sampled_from(["png", "tif", "npy", "jpg"])
)
def test_damaged_images(noise, place, suffix):
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        save(raw / "normal" / "n.png", water(1, 64))
        path = save(raw / "anomalous" / ("a.png" if suffix == "npy" else f"a.{suffix}"), water(2, 64))
        if suffix == "npy":
            path.unlink()
            path = path.with_suffix(".npy")
            np.save(path, water(2, 64))
        content = bytearray(path.read_bytes())
        content[place : place + len(noise)] = noise
        path.write_bytes(content)
        attempt(lambda: prepare("folder", raw, Path(folder) / "out"))
