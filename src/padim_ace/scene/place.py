"""Where a scene lies on Earth, by transform or ground control points, and the targets marked in it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

LONGITUDE_LATITUDE = "EPSG:4326"
EQUAL_AREA = "EPSG:6933"
Points = list[Any] | np.ndarray


class SceneError(ValueError):
    """Something is not as it should be: one line says where, what was expected, found, and what to do."""


def rasterio() -> Any:
    """The package, with the parts that are used here.

    Raises:
        SceneError: if it is not installed.
    """
    os.environ.setdefault("GDAL_CACHEMAX", "128")  # MB; by itself it takes a twentieth of all memory
    try:
        for part in ("features", "shutil", "transform", "warp", "windows"):
            import_module(f"rasterio.{part}")
    except ImportError:
        raise SceneError("scenes: expected rasterio, found none; pip install 'padim-ace[scenes]'") from None
    return import_module("rasterio")


@dataclass
class Place:
    """What a raster says of its place on Earth; nothing, for a plain image."""

    crs: Any = None
    transform: Any = None
    gcps: list[Any] = field(default_factory=list)

    @classmethod
    def of(cls, raster: Any) -> Place:
        """Of an open raster."""
        if raster.crs and not raster.transform.is_identity:
            return cls(raster.crs, raster.transform)
        gcps, crs = raster.gcps
        return cls(crs, None, gcps) if gcps and crs else cls()

    def profile(self) -> dict[str, Any]:
        """What a raster on the same grid is written with."""
        return {name: getattr(self, name) for name in ("crs", "transform", "gcps") if getattr(self, name)}

    def to_lonlat(self, points: Points, crs: str = LONGITUDE_LATITUDE) -> Points:
        """Pixels (column, row), from the upper left corner, to longitude and latitude, or another CRS."""
        columns, rows = np.array(points, float).T
        x, y = self._transformer.xy(rows, columns, offset="ul")
        return list(zip(*rasterio().warp.transform(self.crs, crs, x, y), strict=True))

    def to_pixels(self, points: Points) -> Points:
        """The inverse of :meth:`to_lonlat`."""
        x, y = rasterio().warp.transform(LONGITUDE_LATITUDE, self.crs, *np.array(points, float).T)
        rows, columns = self._transformer.rowcol(x, y, op=float)
        return list(zip(columns.tolist(), rows.tolist(), strict=True))

    def pixel_area(self, column: float, row: float) -> float:
        """The area of a pixel on the ground, in m², whatever the projection does to it."""
        corners = [(column, row), (column + 1, row), (column, row + 1)]
        at, right, below = np.array(self.to_lonlat(corners, EQUAL_AREA))
        return float(abs(np.linalg.det([right - at, below - at])))

    @cached_property
    def _transformer(self) -> Any:
        transform = rasterio().transform
        if self.gcps:
            return transform.GCPTransformer(self.gcps, tps=True)
        return transform.AffineTransformer(self.transform)


def read_targets(path: Path, place: Place, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The boxes and polygons of a GeoJSON file, as geometries in pixels (column, row) of a scene.

    Coordinates are longitude and latitude; pixels, in a file with ``"coordinates": "pixel"``.

    Raises:
        SceneError: for a file that is no GeoJSON of polygons, a scene without coordinates, a target outside.
    """
    try:
        content = json.loads(path.read_bytes())
        found = [feature["geometry"] for feature in content["features"]]
        several = [g["coordinates"] if g["type"] == "MultiPolygon" else [g["coordinates"]] for g in found]
        rings = [
            [[tuple(map(float, point[:2])) for point in ring] for ring in p] for part in several for p in part
        ]
        assert rings and all(len(ring) > 3 for polygon in rings for ring in polygon), "no polygon"
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SceneError(f"{path}: expected a FeatureCollection of polygons, found {reason}") from None
    pixel = content.get("coordinates") == "pixel"
    if not pixel and not place.crs:
        raise SceneError(
            f"{path}: expected a scene with a CRS or ground control points for longitude and latitude, found "
            'none; give pixels, with "coordinates": "pixel" beside the features'
        )
    targets = [p if pixel else [place.to_pixels(ring) for ring in p] for p in rings]
    for (left, top), (right, bottom) in ((np.min(p[0], 0), np.max(p[0], 0)) for p in targets):
        if min(left, top) < 0 or right > size[1] or bottom > size[0]:
            raise SceneError(
                f"{path}: expected targets within {size[1]} columns and {size[0]} rows, found one of columns "
                f"{left:.0f} to {right:.0f}, rows {top:.0f} to {bottom:.0f}; is it of another scene?"
            )
    return [{"type": "Polygon", "coordinates": polygon} for polygon in targets]
