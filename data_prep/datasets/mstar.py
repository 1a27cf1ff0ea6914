"""MSTAR: vehicle chips, as raw Phoenix files (magnitude and phase) or as 8-bit images."""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from data_prep import archives
from data_prep.errors import DataError
from data_prep.images import read_image, to_grey8
from data_prep.prepared import Item, Record
from data_prep.target_removal import KMeansRemoval, image_rng, remove_by_kmeans

#: Standard operating conditions, class -> chips at 17° (train) and 15° (test) depression.
SOC_COUNTS = {
    "2S1": (299, 274),
    "BMP2": (233, 195),
    "BRDM2": (298, 274),
    "BTR60": (256, 195),
    "BTR70": (233, 196),
    "D7": (299, 274),
    "T62": (299, 273),
    "T72": (232, 196),
    "ZIL131": (299, 274),
    "ZSU23-4": (299, 274),
}
#: The one vehicle of each of these classes that the standard operating conditions use.
SOC_SERIALS = {"BMP2": "9563", "T72": "132"}
IMAGE_SUFFIXES = {".jpeg", ".jpg", ".png", ".tif", ".tiff"}
HEADER_END = b"[EndofPhoenixHeader]"
SPLIT_OF_DEPRESSION = {17: "train", 15: "test"}


@dataclass(frozen=True)
class Parameters(KMeansRemoval):
    """MSTAR's parameters; those of the removal are inherited."""

    crop: int | None = 128  # side of the centre crop in pixels; None keeps the chip
    magnitude: str = "linear"  # or "log": decibels between the chip's least and greatest magnitude

    def __post_init__(self) -> None:
        """Raise `DataError` for an unknown scale."""
        if self.magnitude not in ("linear", "log"):
            raise DataError("magnitude", "'linear' or 'log'", repr(self.magnitude), "change the parameter")


@dataclass(frozen=True)
class Phoenix:
    """A raw file: header, magnitude, and phase (radians in a chip, the stored counts in a clutter scene)."""

    header: dict[str, str]
    magnitude: Shaped[np.ndarray, "row column"]
    phase: Shaped[np.ndarray, "row column"]


def read_header(path: Path) -> dict[str, str]:
    """The `key= value` lines of a Phoenix file; empty where the file is none.

    Raises:
        DataError: where the header is cut short.
    """
    with path.open("rb") as file:
        head = file.read(16384)
    if not head.startswith(b"[PhoenixHeaderVer"):
        return {}
    text, end, _ = head.partition(HEADER_END)
    if not end:
        raise DataError(path, HEADER_END.decode(), "a header cut short", "fetch the file again")
    pairs = (line.split("=", 1) for line in text.decode("latin-1").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def read_phoenix(path: Path) -> Phoenix:
    """Read a chip (big-endian float32 magnitude, then phase) or a clutter scene.

    A scene has `native_header_length` (512) more header bytes, then big-endian uint16 magnitude and phase.

    Raises:
        DataError: where the header is cut short or lies about the file's size, or a magnitude is not finite.
    """
    header = read_header(path)
    if not header:
        raise DataError(path, "a Phoenix file", "none of its header", "remove it")
    start = _whole(path, header, "PhoenixHeaderLength") + _whole(path, header, "native_header_length")
    rows, columns = _whole(path, header, "NumberOfRows"), _whole(path, header, "NumberOfColumns")
    kind = np.dtype(">f4" if int(header["native_header_length"]) == 0 else ">u2")
    size = path.stat().st_size
    needed = start + 2 * rows * columns * kind.itemsize
    if rows * columns == 0 or size < needed:
        raise DataError(
            path, f"{needed} bytes of header and {rows}x{columns} pixels", str(size), "fetch it again"
        )
    stated = _whole(path, header, "PhoenixSigSize") if "PhoenixSigSize" in header else size
    if size != stated:
        raise DataError(path, f"{stated} bytes (PhoenixSigSize)", str(size), "fetch it again")
    data = np.fromfile(path, kind, count=2 * rows * columns, offset=start)
    magnitude, phase = data.astype(kind.newbyteorder("=")).reshape(2, rows, columns)
    if magnitude.dtype.kind == "f" and not np.isfinite(magnitude).all():
        bad = int(np.count_nonzero(~np.isfinite(magnitude)))
        raise DataError(path, "finite magnitudes", f"{bad} NaN or infinite ones", "fetch it again")
    return Phoenix(header, magnitude, phase)


def _whole(path: Path, header: dict[str, str], key: str) -> int:
    """A count in a header, at least 0."""
    try:
        value = int(header.get(key, "no such key"))
    except ValueError:
        value = -1
    if value < 0:
        raise DataError(path, f"a whole number as {key}", header.get(key, "no such key"), "fetch it again")
    return value


def centre_crop(
    chip: Shaped[np.ndarray, "row column"], size: int | None
) -> Shaped[np.ndarray, "side_row side_column"]:
    """The middle `size` x `size` pixels (the upper left of four middles); the chip itself for None.

    Raises:
        DataError: where the chip is smaller.
    """
    if size is None:
        return chip
    if min(chip.shape) < size:
        found = f"{chip.shape[1]}x{chip.shape[0]}"
        raise DataError("image", f"at least {size}x{size} pixels", found, "set crop lower")
    top, left = (chip.shape[0] - size) // 2, (chip.shape[1] - size) // 2
    return np.ascontiguousarray(chip[top : top + size, left : left + size])


def grey_levels(magnitude: Float32[np.ndarray, "row column"], scale: str) -> UInt8[np.ndarray, "row column"]:
    """8-bit grey of a magnitude chip, least to greatest value: linear, or log10(1 + magnitude / floor).

    The floor of the logarithm is a hundredth of the median, well under the clutter.
    """
    if scale == "log":
        floor = max(float(np.median(magnitude)) / 100, 1e-12)
        magnitude = np.log10(1 + magnitude / floor)
    low, high = float(magnitude.min()), float(magnitude.max())
    if not high > low:
        raise DataError("image", "a chip with a target", f"{low:g} in all pixels", "remove it")
    return to_grey8(magnitude, low, high)


def vehicle_class(name: str) -> str:
    """The class of a folder or a `TargetType` ("zsu23-4_gun", "ZSU_23_4"); other names stay as they are."""
    plain = re.sub("[^A-Z0-9]", "", name.upper())
    for known in SOC_COUNTS:
        if plain.startswith(known.replace("-", "")):
            return known
    return name


def items(raw: Path, parameters: Parameters) -> tuple[list[Item], dict[str, Any]]:
    """The chips of a release; raw Phoenix files are preferred where a folder holds both kinds.

    Phoenix files are sorted by their header: 17° depression is the training split, 15° the test split, other
    angles, clutter scenes and other serial numbers of BMP2 and T72 are no part of the standard operating
    conditions and are counted in the report.
    """
    raw = raw / "MSTAR" if (raw / "MSTAR").is_dir() else raw
    if not raw.is_dir():
        raise archives.missing("mstar", raw)
    files = sorted(p for p in raw.rglob("*") if p.is_file() and not p.name.startswith("."))
    chips, skipped = _phoenix_items(raw, [p for p in files if p.suffix.lower() not in IMAGE_SUFFIXES])
    if not chips:
        chips = [_image_item(raw, p) for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
    if not chips:
        raise archives.missing("mstar", raw)
    found = Counter((item.category, item.split) for item in chips)
    unlike = {
        f"{name} {split}": {"found": found[name, split], "standard": count}
        for name, pair in SOC_COUNTS.items()
        for split, count in zip(("train", "test"), pair, strict=True)
        if found[name, split] != count
    }
    return chips, {"skipped": dict(skipped), "unlike_standard_operating_conditions": unlike}


def _phoenix_items(raw: Path, files: list[Path]) -> tuple[list[Item], Counter[str]]:
    chips, skipped = [], Counter[str]()
    for path in files:
        header = read_header(path)
        if not header:
            continue
        if "TargetType" not in header:
            skipped["clutter scenes"] += 1
            continue
        name = vehicle_class(header["TargetType"])
        angle = _number(path, header, "DesiredDepression", "MeasuredDepression")
        split = SPLIT_OF_DEPRESSION.get(round(angle))
        serial = re.sub("[^0-9a-z]", "", header.get("TargetSerNum", "").lower()).removeprefix("sn")
        if split is None:
            skipped[f"depression {round(angle)}"] += 1
        elif SOC_SERIALS.get(name, serial) != serial:
            skipped[f"{name} serial {serial}"] += 1
        else:
            stem = path.name.replace(".", "_")
            chips.append(
                Item(f"{name}_{split}_{stem}", path.relative_to(raw).as_posix(), split, name, (path,))
            )
    return chips, skipped


def _number(path: Path, header: dict[str, str], *keys: str) -> float:
    for key in keys:
        try:
            value = float(header[key])
        except (KeyError, ValueError):
            continue
        if math.isfinite(value):
            return value
    raise DataError(path, f"a number as {' or '.join(keys)}", "none", "fetch it again")


def _image_item(raw: Path, path: Path) -> Item:
    """An image chip: its class is its folder, its split a folder above named train, test, 17… or 15…."""
    source = path.relative_to(raw).as_posix()
    name = vehicle_class(path.parent.name)
    for part in reversed(path.parent.relative_to(raw).parts):
        split = {"17": "train", "15": "test"}.get(part[:2], part.lower())
        if split in ("train", "test"):
            return Item(f"{name}_{split}_{path.stem}", source, split, name, (path,))
    raise DataError(path, "a folder train or test above it", f"{source}", "sort the chips by split")


def load(item: Item, parameters: Parameters, seed: int) -> list[Record]:
    """The chip with its mask, and its copy without target and shadow."""
    path = item.files[0]
    try:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            chip = centre_crop(read_image(path), parameters.crop)
            image = chip if chip.dtype == np.uint8 and parameters.magnitude == "linear" else None
        else:
            chip, image = centre_crop(read_phoenix(path).magnitude, parameters.crop), None
        if image is None:
            image = grey_levels(chip.astype(np.float32), parameters.magnitude)
        background, mask = remove_by_kmeans(image, image_rng(seed, item.name), parameters)
    except DataError as error:
        raise error.at(path) from None
    chip_record = Record(item.name, "anomalous", item.split, item.category, item.source, image, mask)
    return [chip_record, replace(chip_record, label="normal", image=background, mask=None)]
