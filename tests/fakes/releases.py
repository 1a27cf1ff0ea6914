"""Fake MSTAR, SSDD and HRSID releases: the layouts and file formats of the originals, simulated content."""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.simulation.scenes import sea, vehicle

SHIP = [30.0, 20.0, 50.0, 20.0, 50.0, 28.0, 30.0, 28.0]  # x, y of a rectangle: 20 x 8 px


def chip(seed: int, size: int = 128) -> np.ndarray:
    """An 8-bit chip with a vehicle."""
    return _simulated(vehicle, seed, size).copy()


def water(seed: int, size: int = 128) -> np.ndarray:
    """An 8-bit image of ship-free sea."""
    return _simulated(sea, seed, size).copy()


@functools.cache
def _simulated(scene, seed: int, size: int) -> np.ndarray:
    looks, ship = (1, True) if scene is vehicle else (3, False)
    return scene(size, looks, "train", ship, np.random.default_rng(seed)).image


def phoenix(
    magnitude: np.ndarray,
    phase: np.ndarray,
    target: str = "t72_tank",
    serial: str = "132",
    depression: float = 17.0,
    scene: bool = False,
    first: str = "\n",
    **overrides: str,
) -> bytes:
    """A raw MSTAR file: float32 for a chip; uint16, and 512 native header bytes, for a clutter scene.

    As the real ones, it begins with a line feed, which the offsets in its header count, and a chip's header
    has the MD5 of all that follows it.
    """
    kind = ">u2" if scene else ">f4"
    blocks = magnitude.astype(kind).tobytes() + phase.astype(kind).tobytes()
    native = 512 if scene else 0
    fields = {
        "PhoenixHeaderLength": "%05d",
        "PhoenixSigSize": "%010d",
        "native_header_length": str(native),
        "NumberOfColumns": str(magnitude.shape[1]),
        "NumberOfRows": str(magnitude.shape[0]),
        "TargetAz": "41.8",
        "DesiredDepression": f"{depression:.0f}",
        "MeasuredDepression": f"{depression + 0.07:.6f}",
    }
    if not scene:
        checksum = hashlib.md5(blocks).hexdigest()
        fields |= {"Chip_MD5_CheckSum": checksum, "TargetType": target, "TargetSerNum": serial}
    fields |= overrides
    lines = "".join(f"{key}= {value}\n" for key, value in fields.items())
    text = f"{first}[PhoenixHeaderVer01.04]\n{lines}[EndofPhoenixHeader]\n"
    length = len(text.replace("%05d", "00000").replace("%010d", "0000000000"))
    text = text.replace("%05d", f"{length:05d}").replace("%010d", f"{length + native + len(blocks):010d}")
    return text.encode() + bytes(native) + blocks


def save(path: Path, image: np.ndarray) -> Path:
    """Write an image, its folders too; the suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def mstar_images(root: Path, per_class: int = 2) -> Path:
    """MSTAR as image chips: {train,test}/<CLASS>/*.jpeg."""
    for split in ("train", "test"):
        for number, name in enumerate(("T72", "ZSU_23_4")):
            for i in range(per_class):
                image = chip(100 * number + 10 * i + (split == "test"), 128 + 4 * number)
                save(root / split / name / f"hb{i:05d}.jpeg", image)
    return root


def mstar_phoenix(root: Path) -> Path:
    """MSTAR as raw chips and a clutter scene, in folders as on the CDs."""
    for angle in (15, 17, 30):
        for target, serial in (("t72_tank", "132"), ("t72_tank", "812"), ("zsu23-4_gun", "d08")):
            magnitude = chip(angle).astype(np.float32) / 510
            folder = root / f"{angle}_DEG" / target.split("_")[0].upper() / f"SN_{serial}"
            path = folder / f"HB0{angle}.0{serial[-2:]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            phase = np.full(magnitude.shape, 0.5, np.float32)
            path.write_bytes(phoenix(magnitude, phase, target, serial, angle))
    path = root / "CLUTTER" / "HB06158"
    path.parent.mkdir()
    path.write_bytes(phoenix(np.full((60, 50), 7), np.zeros((60, 50)), scene=True))
    return root


def coco(images: dict[str, list[list[float]]], size: tuple[int, int]) -> str:
    """A COCO annotation file: polygons by image name; `size` is (rows, columns)."""
    content: dict[str, list] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ship"}]}
    for number, (name, polygons) in enumerate(images.items()):
        content["images"].append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for polygon in polygons:
            annotation = {"id": len(content["annotations"]), "image_id": number, "segmentation": [polygon]}
            content["annotations"].append(annotation | {"category_id": 1, "iscrowd": 0})
    return json.dumps(content)


def with_ship(image: np.ndarray, polygon: list[float] = SHIP) -> np.ndarray:
    """The image with a bright rectangle where `polygon` is."""
    left, top, _, _, right, bottom = map(int, polygon[:6])
    image = image.copy()
    image[top:bottom, left:right] = 230
    return image


def ssdd(root: Path, masks: str | None = ".png", train: int = 3, test: int = 2) -> Path:
    """SSDD's official tree, nested twice as in the archive; `masks`: their suffix, None for polygons."""
    base = root / "Official-SSDD-OPEN" / "Official-SSDD-OPEN" / "PSeg_SSDD"
    number = 0
    for split, count in (("train", train), ("test", test)):
        names = {}
        for _ in range(count):
            number += 1
            image = with_ship(water(number)[:100])
            name = f"{number:06d}.jpg"
            save(base / "voc_style" / f"JPEGImages_{split}" / name, np.repeat(image[..., None], 3, axis=2))
            names[name] = [SHIP]
            if masks:
                green = np.zeros((*image.shape, 3), np.uint8)
                green[20:28, 30:50, 1] = 255
                save(base / "voc_style" / "JPEGImages_PSeg_GT_Mask" / f"{number:06d}{masks}", green)
        annotations = base / "coco_style" / "annotations" / f"{split}.json"
        annotations.parent.mkdir(parents=True, exist_ok=True)
        annotations.write_text(coco(names, (100, 128)))
    return root


def hrsid(root: Path, size: int = 160, train: int = 2, test: int = 2, background: int = 2) -> Path:
    """HRSID: JPEGImages, annotations/{train,test}2017.json, pure_background."""
    base = root / "HRSID_JPG"
    number = 0
    for split, count in (("train", train), ("test", test)):
        names = {}
        for _ in range(count):
            number += 1
            name = f"P{number:04d}_0_{size}_0_{size}.jpg"
            save(base / "JPEGImages" / name, with_ship(water(number, size)))
            names[name] = [SHIP]
        path = base / "annotations" / f"{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(coco(names, (size, size)))
    for i in range(background):
        save(base / "pure_background" / f"B{i:04d}.jpg", water(90 + i, size))
    return root
