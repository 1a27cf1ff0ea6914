"""Whole scenes of thousands of pixels: a sea with ships, a strip of land, a no-data border, a place on Earth.

`python -m data_prep.simulation.whole FOLDER` writes two: `sea.tif` without ships and `ships.tif`.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from data_prep.files import write_atomic
from data_prep.simulation.sar import System, gamma_texture, gaussian_field, intensity
from data_prep.simulation.scenes import NOTHING, _ship

ROOM = 96  # px, of the square that a ship is drawn in
SPACING = 10.0  # m between pixels
UTM = ("EPSG:32631", 500_000.0, 5_700_000.0)  # on its central meridian, 3° E
SLANT = 0.12  # columns of border for each row, as where an orbit crosses the grid


def write_scene(
    path: Path,
    size: tuple[int, int] = (2048, 2048),
    ships: int = 40,
    *,
    shape: float = 4.0,
    brightness: float = 1.0,
    land: float = 0.15,
    border: int = 200,
    place: str = "crs",
    repeat: int = 1,
    seed: int = 0,
) -> list[tuple[int, int, int, int]]:
    """Write a scene as 16-bit GeoTIFF, and the boxes of its ships as `<name>.truth.geojson` beside it.

    Args:
        path: the file.
        size: rows and columns.
        ships: how many.
        shape: of the K-distribution of the sea; the lower, the spikier.
        brightness: what the amplitudes of the ships are multiplied by.
        land: the part of the columns that is land, on the right.
        border: columns of no-data in the first row, on the left; fewer in each row below.
        place: `crs` (UTM) or `gcps` (ground control points in longitude and latitude).
        repeat: how often the scene is laid side by side in rows and columns; the sea repeats without a seam.
        seed: the same seed, the same scene.

    Returns:
        The boxes of the ships: left, top, right, bottom, in pixels.
    """
    rng = np.random.default_rng(seed)
    amplitude, boxes = _amplitude(size, ships, shape, brightness, land, border, rng)
    georeference, to_lonlat = _georeference(size, place)
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "dtype": "uint16",
        "count": 1,
        "nodata": 0,
        "tiled": True,
        "compress": "deflate",
    }
    profile |= {"height": size[0] * repeat, "width": size[1] * repeat, "bigtiff": "if_safer"} | georeference
    with rasterio.open(path, "w", **profile) as out:
        for row, column in np.ndindex(repeat, repeat):
            out.write(
                amplitude, 1, window=rasterio.windows.Window(column * size[1], row * size[0], *size[::-1])
            )
        out.set_band_description(1, "vv")
    features: list[dict] = []
    for left, top, right, bottom in boxes:
        ring = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
        geometry = {"type": "Polygon", "coordinates": [to_lonlat(ring)]}
        properties = {"box_px": [left, top, right, bottom]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    truth = {"type": "FeatureCollection", "features": features}
    write_atomic(path.with_suffix(".truth.geojson"), json.dumps(truth).encode())
    return boxes


def _amplitude(
    size: tuple[int, int],
    ships: int,
    shape: float,
    brightness: float,
    land: float,
    border: int,
    rng: np.random.Generator,
) -> tuple[UInt16[np.ndarray, "row column"], list[tuple[int, int, int, int]]]:
    """The image, 0 in its border, and the boxes of its ships."""
    row, column = np.indices(size)
    swell = np.cos(2 * np.pi * (row * round(size[0] / 40) / size[0] + column * round(size[1] / 25) / size[1]))
    power = np.exp(0.15 * swell) * gamma_texture(size, shape, 1.5, rng)
    coast = size[1] * (1 - land) + 0.02 * size[1] * gaussian_field((size[0], 1), (size[0] / 40, 0), rng)
    ashore = (column > coast) & (land > 0)
    soil = 1.5 * np.exp(0.35 * gaussian_field(size, 9, rng)) * gamma_texture(size, 2.5, 1.2, rng)
    power = np.where(ashore, soil, power)
    edge = np.maximum(border - SLANT * row, 0) * (border > 0)
    points = NOTHING
    boxes: list[tuple[int, int, int, int]] = []
    taken = (column < edge + ROOM / 2) | (column > coast - ROOM / 2)
    while len(boxes) < ships:
        top, left = (int(rng.integers(n - ROOM)) for n in size)
        square = (slice(top, top + ROOM), slice(left, left + ROOM))
        middle, heading, length = np.full(2, ROOM / 2), rng.uniform(0, np.pi), rng.uniform(10, 40)
        hull, found = _ship((ROOM, ROOM), middle, heading, length, rng)
        if not taken[square].any():
            taken[square] = True
            points = np.hstack([points, found * [[1], [1], [brightness]] + [[top], [left], [0]]])
            rows, columns = (np.flatnonzero(hull.any(axis))[[0, -1]].tolist() for axis in (1, 0))
            boxes.append((left + columns[0], top + rows[0], left + columns[1] + 1, top + rows[1] + 1))
    image = np.sqrt(intensity(power, points, System(1.5, 30.0, 3, noise=0.1), rng))
    grey = np.clip(np.rint(100 * image), 1, 65535).astype(np.uint16)
    grey[column < edge] = 0
    return grey, boxes


def _georeference(size: tuple[int, int], place: str) -> tuple[dict, Callable[[list], list]]:
    """What the raster says of its place, and pixels (column, row) to coordinates."""
    from rasterio.control import GroundControlPoint
    from rasterio.transform import Affine
    from rasterio.warp import transform

    crs, east, north = UTM
    if place == "crs":
        affine = Affine(SPACING, 0, east, 0, -SPACING, north)
    else:  # turned, as an orbit is
        affine = Affine.translation(east, north) @ Affine.rotation(-12) @ Affine.scale(SPACING, -SPACING)

    def to_lonlat(ring: list) -> list:
        x, y = zip(*(affine @ point for point in ring), strict=True)
        return [list(point) for point in zip(*transform(crs, "EPSG:4326", x, y), strict=True)]

    if place == "crs":
        return {"crs": crs, "transform": affine}, to_lonlat
    rows, columns = (np.linspace(0, n, 6) for n in size)
    grid = [(float(column), float(row)) for row in rows for column in columns]
    lonlat = zip(grid, to_lonlat(grid), strict=True)
    gcps = [GroundControlPoint(row, column, x, y) for (column, row), (x, y) in lonlat]
    return {"crs": "EPSG:4326", "gcps": gcps}, to_lonlat


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_scene(folder / "sea.tif", ships=0, seed=1)
    write_scene(folder / "ships.tif", seed=2)
    print(f"{folder}/sea.tif, {folder}/ships.tif, {folder}/ships.truth.geojson")
