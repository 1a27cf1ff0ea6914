"""SSDD (SAR Ship Detection Dataset), the official tree of 2021 with pixel masks (PSeg_SSDD)."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep import archives
from data_prep.datasets import coco
from data_prep.erased import RemovalParameters, anomalous_and_erased
from data_prep.errors import DataError
from data_prep.images import list_images, read_grey8, read_mask
from data_prep.prepared import Item, Record

IMAGE_COUNTS = {"train": 928, "test": 232}
MASKS = "JPEGImages_PSeg_GT_Mask"


@dataclass(frozen=True)
class Parameters(RemovalParameters):
    """SSDD's parameters; `removal` is `mask` (the release's, dilated) or `kmeans` (what the paper says)."""

    drop_duplicates: bool = False  # of pixel-identical images keep one, that of the test split first


def items(raw: Path, parameters: Parameters) -> tuple[list[Item], dict[str, Any]]:
    """The images of both splits, each with its mask file or, where that is absent, its polygons."""
    voc = (
        next((p.parent for p in sorted(raw.glob("**/voc_style/JPEGImages_train"))), None)
        if raw.is_dir()
        else None
    )
    if voc is None:
        raise archives.missing("ssdd", raw)
    masks = {p.stem: p for folder in sorted(voc.glob(f"{MASKS}*")) for p in list_images(folder)}
    ships: list[Item] = []
    for split in ("train", "test"):
        polygons = None
        images = list_images(voc / f"JPEGImages_{split}")
        for path in images:
            source = path.relative_to(voc.parent).as_posix()
            if path.stem in masks:
                ships.append(Item(path.stem, source, split, "ship", (path, masks[path.stem])))
                continue
            if polygons is None:
                annotations = voc.parent / "coco_style" / "annotations" / f"{split}.json"
                if not annotations.exists():
                    expected = f"a mask of it in {voc / MASKS} or polygons in {annotations}"
                    raise DataError(path, expected, "neither", "unpack the whole release")
                polygons = coco.read_polygons(annotations, {p.name for p in images})
            drawn = polygons.get(path.name, ())
            if not drawn:
                raise DataError(path, "a mask or polygons of ships", "neither", "remove the image")
            ships.append(Item(path.stem, source, split, "ship", (path,), drawn))
    if not ships:
        raise archives.missing("ssdd", raw)
    groups = duplicates(ships)
    across = [group for group in groups if len({item.split for item in group}) == 2]
    report: dict[str, Any] = {
        "duplicate_groups": [[item.name for item in group] for group in groups],
        "duplicate_groups_across_splits": [[item.name for item in group] for group in across],
    }
    if parameters.drop_duplicates:
        dropped = {
            item.name for group in groups for item in sorted(group, key=lambda i: (i.split, i.name))[1:]
        }
        report["dropped"] = sorted(dropped)
        ships = [item for item in ships if item.name not in dropped]
    return ships, report


def duplicates(ships: list[Item]) -> list[list[Item]]:
    """Groups of items whose images have identical pixels."""
    by_pixels = defaultdict(list)
    for item in ships:
        image = read_grey8(item.files[0])
        by_pixels[image.shape, hashlib.sha256(image.tobytes()).digest()].append(item)
    return [group for group in by_pixels.values() if len(group) > 1]


def load(item: Item, parameters: Parameters, seed: int) -> list[Record]:
    """The image with the release's mask, and its copy without ships."""
    image = read_grey8(item.files[0])
    mask = coco.draw(item.extra, image.shape) if item.extra else read_mask(item.files[1], image.shape)
    return anomalous_and_erased(item, image, mask, parameters, seed)
