"""What is written of a scene: its scores on its own grid, detections as GeoJSON, a picture to look at."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from padim_ace.scene.place import Place, Points, SceneError, rasterio
from padim_ace.scene.reading import Scene
from padim_ace.scene.scaling import Scaling
from padim_ace.scene.tiles import ALIGNED

MOST = 1_000_000
"""Patches above the threshold, the most that are kept."""
NEAR = 2
"""How many rows and columns of patches lie at most between two of one detection, and one more."""
PICTURE = 1600
"""Longest side of the picture, in pixels."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside a file's own, which the file takes if all goes well and is removed if not.

    Raises:
        SceneError: where the file can't be written.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        cause = " ".join(str(error.__cause__ or error).split())
        full = getattr(error, "errno", None) in FULL or "rite" in cause
        advice = "free some space and run again" if full else "check path and permissions"
        raise SceneError(f"{path}: expected to write it, found {cause}; {advice}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def score_raster(path: Path, size: tuple[int, int], place: Place) -> Iterator[Any]:
    """A raster of one band of float32, NaN without a score, that becomes a cloud-optimised GeoTIFF."""
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": size[0], "width": size[1]}
    profile |= {"nodata": float("nan"), "tiled": True, "blockxsize": ALIGNED, "blockysize": ALIGNED}
    profile |= {"bigtiff": "IF_SAFER", "compress": "deflate", "zlevel": 1} | place.profile()
    layout = {"compress": "deflate", "level": 1, "bigtiff": "if_safer", "num_threads": "all_cpus"}
    with whole(path) as cog:
        part = cog.with_suffix(".part.tif")
        try:
            with rasterio().open(part, "w", **profile) as raster:
                raster.set_band_description(1, "score")
                yield raster
            rasterio().shutil.copy(part, cog, driver="COG", overview_resampling="average", **layout)
        finally:
            part.unlink(missing_ok=True)


class Detections:
    """Patches above a threshold, collected window by window; memory grows with their number alone."""

    def __init__(self, threshold: float, patch: int) -> None:
        self.threshold, self.patch = threshold, patch
        self._found, self._count = [np.empty((0, 3))], 0

    def add(self, scores: Float[np.ndarray, "row column"], corner: tuple[int, int]) -> None:
        """The patches of a window's inner part, which begins at a pixel of the scene; NaN is no score.

        Raises:
            SceneError: for more than :data:`MOST` above the threshold.
        """
        row, column = np.nonzero(scores >= self.threshold)
        first = (at // self.patch for at in corner)
        self._found.append(np.stack([row + next(first), column + next(first), scores[row, column]], 1))
        self._count += len(row)
        if self._count > MOST:
            raise SceneError(
                f"threshold: expected at most {MOST} patches above it, found more above {self.threshold:g}; "
                "raise it, or see whether scene and model fit together (padim-ace info)"
            )

    def features(self, size: tuple[int, int], place: Place) -> list[dict[str, Any]]:
        """A GeoJSON feature for each group of patches that are near each other, the highest score first.

        Its geometry is in longitude and latitude, None where the scene has no coordinates.
        """
        found = np.concatenate(self._found)
        patches, score = found[:, :2].astype(np.int64), found[:, 2]
        groups = sorted(_groups(patches), key=lambda group: -score[group].max())
        made = [self._feature(patches[group], float(score[group].max()), size, place) for group in groups]
        return [{"type": "Feature", "id": number} | feature for number, feature in enumerate(made, 1)]

    def _feature(
        self, patches: Int[np.ndarray, "patch 2"], score: float, size: tuple[int, int], place: Place
    ) -> dict[str, Any]:
        low, high = patches.min(0), patches.max(0) + 1
        cells = np.zeros(high - low, np.uint8)
        cells[tuple((patches - low).T)] = 1
        shapes = rasterio().features.shapes(cells, mask=cells == 1, connectivity=4)
        outlines = [
            [(np.array(ring) + low[::-1]) * self.patch for ring in s["coordinates"]] for s, _ in shapes
        ]
        polygons = [[np.minimum(ring, size[::-1]) for ring in polygon] for polygon in outlines]
        (top, left), (bottom, right) = (np.minimum(at * self.patch, size).tolist() for at in (low, high))
        sides = np.minimum((patches + 1) * self.patch, size) - patches * self.patch
        area, geometry = int(sides.prod(1).sum()), None
        properties = {"score": float(f"{score:.6g}"), "box_px": [left, top, right, bottom], "area_px": area}
        properties["outline_px"] = [[ring.astype(int).tolist() for ring in polygon] for polygon in polygons]
        if place.crs:
            properties["area_m2"] = round(area * place.pixel_area((left + right) / 2, (top + bottom) / 2), 2)
            turned = [[_turned(place.to_lonlat(r), i == 0) for i, r in enumerate(p)] for p in polygons]
            geometry = {"type": "MultiPolygon", "coordinates": turned}
        return {"geometry": geometry, "properties": properties}


def _groups(patches: Int[np.ndarray, "patch 2"]) -> list[Int[np.ndarray, " member"]]:
    """Patches that are joined by steps of at most :data:`NEAR` rows and columns."""
    if not len(patches):
        return []
    first, second = KDTree(patches).query_pairs(NEAR, np.inf, output_type="ndarray").T
    _, group = connected_components(
        coo_array((np.ones(len(first)), (first, second)), (len(patches),) * 2), False
    )
    return np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])


def _turned(ring: Points, outer: bool) -> list[list[float]]:
    """A ring the way round that RFC 7946 asks for: outer ones counterclockwise, holes clockwise."""
    area = sum(a * d - b * c for (a, b), (c, d) in zip(ring, ring[1:], strict=False))
    return [[round(x, 8), round(y, 8)] for x, y in (ring if (area > 0) == outer else ring[::-1])]


def save_picture(path: Path, scene: Scene, scaling: Scaling, features: list[dict[str, Any]]) -> None:
    """The scene, small, with a box around each detection."""
    values, step = scene.small(PICTURE)
    # the square root of amplitudes shows the sea and the ships
    image = Image.fromarray((255 * np.sqrt(scaling(values))).astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for feature in features:
        left, top, right, bottom = (at / step for at in feature["properties"]["box_px"])
        draw.rectangle([left - 3, top - 3, right + 3, bottom + 3], outline=(255, 90, 60), width=2)
    image.save(path, "PNG")
