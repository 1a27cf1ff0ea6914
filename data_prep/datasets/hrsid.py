"""HRSID (High-Resolution SAR Images Dataset): ships by COCO polygons, ship-free scenes as normals."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import archives
from data_prep.datasets import coco
from data_prep.errors import DataError
from data_prep.images import list_images, read_grey8
from data_prep.prepared import Item, Record

IMAGE_COUNT, BACKGROUND_COUNT, IMAGE_SIZE = 5604, 400, 800


@dataclass(frozen=True)
class Parameters:
    """HRSID's parameters."""

    tile_size: int | None = None  # px; None keeps the release's 800x800 images

    def __post_init__(self) -> None:
        """Raise `DataError` for a tile size that is none."""
        if self.tile_size is not None and self.tile_size < 1:
            raise DataError("tile_size", "at least 1 px or None", f"{self.tile_size}", "change the parameter")


def items(raw: Path, parameters: Parameters) -> tuple[list[Item], dict[str, Any]]:
    """The annotated images of both splits and the pure backgrounds."""
    root = next(
        (p.parent for p in sorted(raw.glob("**/JPEGImages")) if (p.parent / "annotations").is_dir()), None
    )
    if root is None:
        raise archives.missing("hrsid", raw)
    images = {p.name: p for p in list_images(root / "JPEGImages")}
    scenes: list[Item] = []
    for split in ("train", "test"):
        path = root / "annotations" / f"{split}2017.json"
        for name, polygons in sorted(coco.read_polygons(path, set(images)).items()):
            source = images[name].relative_to(root).as_posix()
            scenes.append(Item(images[name].stem, source, split, "ship", (images[name],), polygons))
    # The release puts its backgrounds in no split; the experiment draws its own among all normals.
    background = next((p for p in sorted(raw.glob("**/pure_background")) if p.is_dir()), None)
    for path in list_images(background) if background else []:
        scenes.append(Item(path.stem, f"pure_background/{path.name}", "train", "background", (path,)))
    if not any(not item.extra for item in scenes) and parameters.tile_size is None:
        raise DataError(
            root,
            "pure_background/ with ship-free images",
            "none",
            f"get the archive ({archives.RELEASES['hrsid'].site}) or set tile_size",
        )
    unannotated = sorted(set(images) - {Path(item.source).name for item in scenes})
    return scenes, {"images_without_annotation": unannotated}


def load(item: Item, parameters: Parameters, seed: int) -> list[Record]:
    """The image, or its tiles; what shows no ship is a normal."""
    image = read_grey8(item.files[0])
    mask = coco.draw(item.extra, image.shape) if item.extra else np.zeros(image.shape, bool)
    size = parameters.tile_size or max(image.shape)
    if size > min(image.shape) and parameters.tile_size:
        raise DataError(
            item.files[0],
            f"an image of at least the tile size {size}",
            f"{image.shape[1]}x{image.shape[0]}",
            "set tile_size lower",
        )
    records = []
    for top, left in tile_corners(image.shape, size):
        tile = np.s_[top : top + size, left : left + size]
        name = f"{item.name}_r{top}_c{left}" if parameters.tile_size else item.name
        source = f"{item.source}#r{top}c{left}" if parameters.tile_size else item.source
        ships = mask[tile]
        record = Record(name, "anomalous", item.split, "ship", source, image[tile].copy(), ships)
        if not ships.any():
            record = replace(record, label="normal", category="background", mask=None)
        records.append(record)
    return records


def tile_corners(shape: tuple[int, int], size: int) -> list[tuple[int, int]]:
    """Upper left corners (row, column) of whole tiles side by side; a rest at right or bottom is left out."""
    rows, columns = (range(0, max(side - size, 0) + 1, size) for side in shape)
    return [(top, left) for top in rows for left in columns]
