"""Polygons of COCO annotation files."""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco_mask

from data_prep.errors import DataError

Polygon = tuple[float, ...]  # x0, y0, x1, y1, … in pixels


def read_polygons(path: Path, images: set[str]) -> dict[str, tuple[Polygon, ...]]:
    """Polygons by image file name, for every image that `path` lists.

    Raises:
        DataError: where the file is no COCO JSON, or names an image that is not among `images`.
    """
    try:
        content = json.loads(path.read_bytes())
        names = {image["id"]: image["file_name"] for image in content["images"]}
        polygons: dict[str, list[Polygon]] = {name: [] for name in names.values()}
        for annotation in content["annotations"]:
            for polygon in annotation["segmentation"]:
                polygons[names[annotation["image_id"]]].append(tuple(map(float, polygon)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise DataError(path, "COCO annotations with polygons", reason, "fetch it again") from None
    for name in sorted(set(polygons) - images):
        raise DataError(path, "annotations of images at hand", f"one of {name}", "add it or fetch again")
    return {name: tuple(found) for name, found in polygons.items()}


def draw(polygons: tuple[Polygon, ...], size: tuple[int, int]) -> Bool[np.ndarray, "row column"]:
    """Mask of `size` (rows, columns) that is True inside any of the polygons (COCO's own rasteriser)."""
    runs = coco_mask.frPyObjects([list(polygon) for polygon in polygons], *size)
    return coco_mask.decode(coco_mask.merge(runs)).astype(bool)
