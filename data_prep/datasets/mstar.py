"""MSTAR: vehicle chips, as raw Phoenix files (magnitude and phase) or as 8-bit images."""

import hashlib
import re
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from pydantic import Field

from data_prep.dataset import Dataset, Item, Record, Report
from data_prep.errors import DataError
from data_prep.images import SUFFIXES, read_grey8, to_grey8
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
#: How file and folder names write a class: `ZSU_23_4`, `zsu23-4_gun`, `T72_SN132`, but not `T720`.
CLASS_NAMES = {
    name: re.compile("[_ -]?".join(re.findall("[A-Z]+|[0-9]+", name)) + "(?![0-9])") for name in SOC_COUNTS
}
SPLIT_NAMES = {"train": "(?i)train(ing)?|17([_ -]?deg.*|°)?", "test": "(?i)test(ing)?|15([_ -]?deg.*|°)?"}
SPLIT_OF_DEPRESSION = {17: "train", 15: "test"}
IMAGE_SUFFIXES = SUFFIXES - {".npy"}
HEADER_START, HEADER_END = b"[PhoenixHeaderVer", b"[EndofPhoenixHeader]"
CHECKSUM = re.compile("[0-9a-fA-F]{32}")


class Parameters(KMeansRemoval):
    """MSTAR's parameters; those of the removal are inherited."""

    crop: int | None = Field(default=128, ge=8, le=4096, description="side of the centre crop, px")
    white: float | None = Field(default=0.5, gt=0, description="magnitude of 255; none stretches each chip")


def read_header(path: Path) -> dict[str, str]:
    """The `key= value` lines of a Phoenix file, which may begin with line feeds; empty where it is none."""
    with path.open("rb") as file:
        head = file.read(16384)
    if not head.lstrip().startswith(HEADER_START):
        return {}
    text, end, _ = head.partition(HEADER_END)
    if not end:
        raise DataError(path, HEADER_END.decode(), "a header cut short", "fetch the file again")
    pairs = (line.split("=", 1) for line in text.decode("latin-1").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def read_phoenix(path: Path) -> Shaped[np.ndarray, "2 row column"]:
    """Magnitude and phase of a chip (big-endian float32; radians) or a clutter scene.

    A scene has `native_header_length` (512) more header bytes, then big-endian uint16 magnitude and phase.

    Raises:
        DataError: If the header is cut short or lies about the file's size, the data are not those of its
            checksum, or a magnitude is not finite.
    """
    header = read_header(path)
    if not header:
        raise DataError(path, "a Phoenix file", "none of its header", "remove it")
    native = _whole(path, header, "native_header_length")
    start = _whole(path, header, "PhoenixHeaderLength") + native
    rows, columns = _whole(path, header, "NumberOfRows"), _whole(path, header, "NumberOfColumns")
    kind = np.dtype(">u2" if native else ">f4")
    size = path.stat().st_size
    needed = start + 2 * rows * columns * kind.itemsize
    if rows * columns == 0 or size < needed:
        expected = f"{needed} bytes of header and {rows}x{columns} pixels"
        raise DataError(path, expected, str(size), "fetch it again")
    stated = _whole(path, header, "PhoenixSigSize") if "PhoenixSigSize" in header else size
    if size != stated:
        raise DataError(path, f"{stated} bytes (PhoenixSigSize)", str(size), "fetch it again")
    content = path.read_bytes()
    checksum = header.get("Chip_MD5_CheckSum", "")
    if CHECKSUM.fullmatch(checksum) and not native:
        found = hashlib.md5(content[start:], usedforsecurity=False).hexdigest()
        if found != checksum.lower():
            raise DataError(path, f"data of MD5 {checksum} (Chip_MD5_CheckSum)", found, "fetch it again")
    data = np.frombuffer(content, kind, 2 * rows * columns, start)
    pixels = data.astype(kind.newbyteorder("=")).reshape(2, rows, columns)
    if bad := np.count_nonzero(~np.isfinite(pixels[0])):
        raise DataError(path, "finite magnitudes", f"{bad} NaN or infinite ones", "fetch it again")
    return pixels


def _whole(path: Path, header: dict[str, str], key: str) -> int:
    """A count in a header, at least 0."""
    text = header.get(key, "no such key")
    if not re.fullmatch("[0-9]{1,12}", text):
        raise DataError(path, f"a whole number as {key}", text, "fetch it again")
    return int(text)


def centre_crop(
    chip: Shaped[np.ndarray, "row column"], size: int | None
) -> Shaped[np.ndarray, "side_row side_column"]:
    """The middle `size` x `size` pixels (the upper left of four middles); the chip itself for None."""
    if size is None:
        return chip
    if min(chip.shape) < size:
        found = f"{chip.shape[1]}x{chip.shape[0]}"
        raise DataError("image", f"at least {size}x{size} pixels", found, "set crop lower")
    top, left = (chip.shape[0] - size) // 2, (chip.shape[1] - size) // 2
    return np.ascontiguousarray(chip[top : top + size, left : left + size])


def vehicle_class(name: str) -> str | None:
    """The class of a folder or a `TargetType` ("zsu23-4_gun", "ZSU_23_4"); None if it is none of the ten."""
    return next((known for known, pattern in CLASS_NAMES.items() if pattern.match(name.upper())), None)


def items(raw: Path, parameters: Parameters) -> tuple[list[Item], Report]:
    """The chips of a release; image chips are left out where there are raw ones.

    Raw chips are sorted by their header, image chips by the folders above them: 17° depression is the
    training split, 15° the test split. Other angles, vehicles, serial numbers of BMP2 and T72, and clutter
    scenes are no part of the standard operating conditions: they are left out, and counted in the report.
    """
    chips: list[Item] = []
    pictures: list[Path] = []
    left_out: Counter[str] = Counter()
    for path in sorted(p for p in raw.rglob("*") if p.is_file()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            pictures.append(path)
        elif header := read_header(path):
            _sort(raw, path, _header_facts(path, header), chips, left_out)
        else:
            left_out[f"{path.suffix.lower() or 'nameless'} files that are no chips"] += 1
    if chips and pictures:
        left_out["image chips, for there are raw ones"] = len(pictures)
    for path in pictures if not chips else []:
        _sort(raw, path, _folder_facts(path.relative_to(raw)), chips, left_out)
    if not chips:
        found = ", ".join(f"{count} x {what}" for what, count in left_out.items())
        raise DATASETS["mstar"].missing(raw, found or "none")
    counts = Counter((item.category, item.split) for item in chips)
    unlike = {
        f"{name} {split}": {"found": counts[name, split], "standard": count}
        for name, pair in SOC_COUNTS.items()
        for split, count in zip(("train", "test"), pair, strict=True)
        if counts[name, split] != count
    }
    return chips, {"left_out": left_out, "unlike_standard_operating_conditions": unlike}


class _Facts(NamedTuple):  # that a header or the folders say of a chip
    target: str  # as written
    split: str | None
    serial: str
    otherwise: str  # why a chip without a split is left out; empty: an error
    scene: str = ""  # that the chip was cut from


def _sort(raw: Path, path: Path, facts: _Facts, chips: list[Item], left_out: Counter[str]) -> None:
    """Add a chip to `chips`, or the reason why it is none of them to `left_out`."""
    name, source = vehicle_class(facts.target), path.relative_to(raw).as_posix()
    serial = re.sub("[^0-9a-z]", "", facts.serial.lower()).removeprefix("sn")
    if name is None:
        left_out[f"{facts.target}, none of the ten classes" if facts.target else "clutter scenes"] += 1
    elif facts.split is None and facts.otherwise:
        left_out[facts.otherwise] += 1
    elif facts.split is None:
        raise DataError(path, "a folder train or test above it", source, "sort the chips by split")
    elif serial and SOC_SERIALS.get(name, serial) != serial:
        left_out[f"{name} serial {serial}"] += 1
    else:
        stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name.replace(".", "_")
        item = Item(f"{name}_{facts.split}_{stem}", source, facts.split, name, (path,), scene=facts.scene)
        chips.append(item)


def _header_facts(path: Path, header: dict[str, str]) -> _Facts:
    if "TargetType" not in header:
        return _Facts("", None, "", "")
    for key in ("DesiredDepression", "MeasuredDepression"):
        with suppress(KeyError, ValueError, OverflowError):
            angle = round(float(header[key]))
            serial, scene = header.get("TargetSerNum", ""), header.get("ParentScene", "")
            split = SPLIT_OF_DEPRESSION.get(angle)
            return _Facts(header["TargetType"], split, serial, f"depression {angle}", scene)
    expected = "a number as DesiredDepression or MeasuredDepression"
    raise DataError(path, expected, "none", "fetch it again")


def _folder_facts(path: Path) -> _Facts:
    """Class, split and serial number (`SN_132`) by the nearest folder that names each."""
    folders = path.parent.parts[::-1]
    target = next((part for part in folders if vehicle_class(part)), path.parent.name or "no folder")
    splits = (name for part in folders for name, known in SPLIT_NAMES.items() if re.fullmatch(known, part))
    serial, angle = (
        next((part for part in folders if re.match(pattern, part)), "")
        for pattern in ("(?i)SN[_ -]?[A-Z]?[0-9]", "(?i)[0-9]{2}[_ -]?deg")
    )
    return _Facts(target, next(splits, None), serial, f"depression {angle[:2]}" if angle else "")


def load(item: Item, parameters: Parameters, seed: int) -> list[Record]:
    """The chip with its mask, and its copy without target and shadow."""
    path, white = item.files[0], parameters.white
    try:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            image = centre_crop(read_grey8(path), parameters.crop)
        else:
            chip = centre_crop(read_phoenix(path)[0], parameters.crop)
            low, high = float(chip.min()), float(chip.max())
            if low == high:
                raise DataError(path, "a chip with a target", f"{low:g} in all pixels", "remove it")
            image = to_grey8(chip, 0.0, white) if white else to_grey8(chip, low, high)
        background, mask, vehicle = remove_by_kmeans(image, image_rng(seed, item.name), parameters)
    except DataError as error:
        raise error.at(path) from None
    chip_record = Record(item.name, "anomalous", item.split, item.category, item.source, image, mask, vehicle)
    return [chip_record, replace(chip_record, label="normal", image=background, mask=None, vehicle=None)]


DATASETS = {
    "mstar": Dataset(
        title="MSTAR",
        items=items,
        load=load,
        parameters=Parameters,
        folder="MSTAR",
        files="MSTAR Public Mixed Targets CD 1 and 2 and MSTAR Public T-72, BMP-2, BTR-70",
        site="AFRL's Sensor Data Management System, https://www.sdms.afrl.af.mil (free registration)",
        layout="Phoenix chips in any folders, or image chips in folders by class and split",
        licence="public release by the U.S. Air Force",
    )
}
