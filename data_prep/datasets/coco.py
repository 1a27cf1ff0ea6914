"""Outlines of targets in COCO annotation files."""

import json
import math
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from data_prep.errors import DataError
from data_prep.images import Mask

FARTHEST = 1e5  # px from the origin; farther coordinates are no outline, and drawing one takes memory
BOXES = "images where boxes stand in for outlines that are missing, run-length encoded, or enclose no pixel"


class Outline(NamedTuple):
    """One annotated target."""

    name: str  # `train.json, annotation 7`
    size: tuple[int, int] | None  # rows and columns of the annotated image, where the file says
    polygons: tuple[tuple[float, ...], ...]  # x0, y0, x1, y1, … in pixels; none where they can't be read
    box: tuple[float, ...] | None  # x, y, width, height


def read_outlines(path: Path, images: set[str]) -> dict[str, tuple[Outline, ...]]:
    """Outlines by image file name, for every image that `path` lists.

    Raises:
        DataError: If the file is no COCO JSON, names an image that is not among `images`, or holds an
            annotation with neither polygon nor box, or with coordinates that are no numbers or far outside.
    """
    where: str | None = None  # the annotation that is being read
    try:
        content = json.loads(path.read_bytes())
        listed = {image["id"]: image for image in content["images"]}
        names = {number: PurePosixPath(image["file_name"]).name for number, image in listed.items()}
        outlines: dict[str, list[Outline]] = {name: [] for name in names.values()}
        for annotation in content["annotations"]:
            where = f"{path.name}, annotation {annotation.get('id', '?')}"
            image = listed[annotation["image_id"]]
            size = (int(image["height"]), int(image["width"])) if {"height", "width"} <= set(image) else None
            polygons, box = _polygons(annotation.get("segmentation")), annotation.get("bbox")
            outline = Outline(where, size, polygons, tuple(map(float, box)) if box else None)
            _check(path, outline)
            outlines[names[annotation["image_id"]]].append(outline)
    except OSError as error:
        raise DataError(path, "a readable file", str(error.strerror), "unpack the whole release") from None
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        reason = f"{type(error).__name__} {error}" + (f" in {where}" if where else "")
        raise DataError(path, "COCO annotations with polygons", reason, "fetch it again or mend it") from None
    for name in sorted(set(outlines) - images):
        raise DataError(path, "annotations of images at hand", f"one of {name}", "add it or fetch again")
    return {name: tuple(found) for name, found in outlines.items()}


def _polygons(segmentation: Any) -> tuple[tuple[float, ...], ...]:
    """The polygons of an annotation, if each has three points at least; else none (a box stands in)."""
    if not isinstance(segmentation, list) or not all(isinstance(part, list) for part in segmentation):
        return ()
    polygons = tuple(tuple(map(float, part)) for part in segmentation)
    return polygons if all(len(part) >= 6 and len(part) % 2 == 0 for part in polygons) else ()


def _check(path: Path, outline: Outline) -> None:
    number, box = f"in annotation {outline.name.split()[-1]}", outline.box
    numbers = [value for part in (*outline.polygons, box or ()) for value in part]
    if wrong := [value for value in numbers if not abs(value) <= FARTHEST]:  # or NaN
        expected, found = f"coordinates within {FARTHEST:.0f} px {number}", f"{wrong[0]:g}"
    elif not outline.polygons and box and (len(box) != 4 or min(box[2:]) <= 0):
        expected, found = f"a bbox of x, y, width, height {number}", f"{list(box)}"
    elif not outline.polygons and not box:
        expected, found = f"a polygon of three points or more, or a bbox, {number}", "neither"
    else:
        return
    raise DataError(path, expected, found, "mend the annotation or remove it")


def draw(outlines: tuple[Outline, ...], size: tuple[int, int]) -> tuple[Mask, tuple[str, ...]]:
    """Mask of an image of `size` (rows, columns), True inside any outline; and the notes of the report.

    COCO's own rasteriser draws the polygons. Where those of a target enclose no pixel, or there are none, its
    box stands in, and a note says so.

    Raises:
        DataError: If the annotated image has another size, or a target has no pixel in it.
    """
    mask = np.zeros(size, bool)
    notes: tuple[str, ...] = ()
    for outline in outlines:
        if outline.size not in (None, size):
            expected, found = (f"{columns}x{rows}" for rows, columns in (outline.size or size, size))
            raise DataError("image", f"{expected} px ({outline.name})", found, "take both of one release")
        drawn = None
        if outline.polygons:
            runs = coco_mask.frPyObjects([list(polygon) for polygon in outline.polygons], *size)
            drawn = coco_mask.decode(coco_mask.merge(runs)).astype(bool)
        if (drawn is None or not drawn.any()) and outline.box and len(outline.box) == 4:
            left, top, width, height = outline.box
            drawn, notes = np.zeros(size, bool), (BOXES,)
            rows = slice(max(math.floor(top), 0), max(math.ceil(top + height), 0))
            drawn[rows, max(math.floor(left), 0) : max(math.ceil(left + width), 0)] = True
        if drawn is None or not drawn.any():
            advice = "mend the annotation or remove it"
            raise DataError("image", f"a target of at least one pixel in it ({outline.name})", "none", advice)
        mask |= drawn
    return mask, notes
