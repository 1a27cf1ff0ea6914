"""A user's own data: a folder of normal images, one of anomalous images, optionally one of masks."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.erased import RemovalParameters, anomalous_and_erased
from data_prep.errors import DataError
from data_prep.images import list_images, read_image, read_mask, to_grey8
from data_prep.prepared import Item, Record


@dataclass(frozen=True)
class Parameters(RemovalParameters):
    """Names of the folders, and how images become 8-bit."""

    removal: str = "none"  # `mask` or `kmeans` also make normals from the anomalous images
    normal_dir: str = "normal"
    anomalous_dir: str = "anomalous"
    mask_dir: str = "masks"
    category: str = "target"
    train_share: float = 0.5  # of the anomalous images, where they are not in folders train/ and test/
    white: float | None = None  # value that becomes 255; None: 255 for 8-bit data, else found from the images


def items(raw: Path, parameters: Parameters) -> tuple[list[Item], dict[str, Any]]:
    """The images of both folders, and masks by name: every anomalous image has one, or none has."""
    normal_dir, anomalous_dir, mask_dir = (
        raw / name for name in (parameters.normal_dir, parameters.anomalous_dir, parameters.mask_dir)
    )
    if not raw.is_dir():
        raise DataError(raw, "a folder of your data", "none", "check the path")
    erase = parameters.removal != "none"
    normals = list_images(normal_dir) if normal_dir.exists() or not erase else []
    if not normals and not erase:
        raise DataError(normal_dir, "images", "none", "add some or set removal to mask or kmeans")
    masks = _by_name(list_images(mask_dir)) if mask_dir.exists() else {}
    found = [
        Item(f"normal_{path.stem}", path.relative_to(raw).as_posix(), "train", "background", (path,))
        for path in normals
    ]
    for path, split in _anomalous(anomalous_dir, parameters.train_share):
        if mask_dir.exists() and path.stem not in masks:
            raise DataError(path, f"a mask {path.stem}.png in {mask_dir}", "none", "add it")
        files = (path, masks.pop(path.stem)) if mask_dir.exists() else (path,)
        found.append(Item(path.stem, path.relative_to(raw).as_posix(), split, parameters.category, files))
    for path in list(masks.values())[:1]:
        raise DataError(path, f"an anomalous image named {path.stem}", "none", "remove the mask")
    white = parameters.white or _white([item.files[0] for item in found])
    return [replace(item, extra=(white,)) for item in found], {"white": white}


def _by_name(paths: list[Path]) -> dict[str, Path]:
    by_name: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_name:
            raise DataError(
                path, f"one file named {path.stem}", f"also {by_name[path.stem].name}", "rename one"
            )
        by_name[path.stem] = path
    return by_name


def _anomalous(folder: Path, train_share: float) -> list[tuple[Path, str]]:
    """Anomalous images with their split: by folders train/ and test/, else a fixed share drawn by name.

    The training split's images serve as target signatures, so it gets at least one.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        found = [(path, split) for split in ("train", "test") for path in list_images(folder / split)]
    else:
        ranked = sorted(list_images(folder), key=lambda path: hashlib.sha256(path.stem.encode()).digest())
        train = max(1, round(train_share * len(ranked)))
        found = [(path, "train" if rank < train else "test") for rank, path in enumerate(ranked)]
    if not found:
        raise DataError(folder, "images", "none", "add images with targets")
    return sorted(found)


def _white(paths: list[Path]) -> float:
    """The value that becomes 255: that of 8-bit data where all images are, else the median over the images of
    their 99.9th percentile, so that one bright image does not darken all others."""
    levels = []
    for path in paths:
        image = read_image(path)
        if image.dtype != np.uint8:
            levels.append(float(np.percentile(image, 99.9)))
        elif levels:
            raise DataError(
                path, f"{len(levels)} images before it and this one of one type", "uint8", "convert"
            )
    return float(np.median(levels)) if levels else 255.0


def load(item: Item, parameters: Parameters, seed: int) -> list[Record]:
    """The image in 8 bits: black is 0, white as found by `items`."""
    path, white = item.files[0], item.extra[0]
    values = read_image(path)
    if not white > 0:
        raise DataError(path, "values above 0", f"{white:g} as white", "set the parameter white")
    image = values if values.dtype == np.uint8 and white == 255 else to_grey8(values, 0.0, white)
    if item.category == "background":
        return [Record(item.name, "normal", item.split, item.category, item.source, image)]
    mask = read_mask(item.files[1], image.shape) if len(item.files) > 1 else None
    return anomalous_and_erased(item, image, mask, parameters, seed)
