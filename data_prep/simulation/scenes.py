"""Simulated scenes: a vehicle on open ground, ships on a sea, ships in a harbour.

Each returns the 8-bit image, the mask of its targets, and the target's class. The radar looks up the image
from its lower edge, as in the MSTAR chips, so shadows fall upward.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from data_prep.images import Grey, Mask
from data_prep.simulation.sar import Scatterers, System, gamma_texture, gaussian_field, intensity

MARGIN = 24  # px simulated around the image: the FFT is periodic, the image is not
NOTHING = np.empty((3, 0))  # no scatterers


class Scene(NamedTuple):
    """A simulated image and its truth."""

    image: Grey
    mask: Mask  # target, and shadow where it casts one
    category: str
    vehicle: Mask | None = None  # the mask without the shadow


class Vehicle(NamedTuple):
    """A vehicle in metres: hull, and a raised part (turret, cabin) at an offset along the hull."""

    length: float
    width: float
    height: float
    raised: tuple[float, float, float]  # length, width, height above ground
    offset: float


VEHICLES = {
    "tank": Vehicle(6.9, 3.5, 1.3, (2.6, 2.4, 2.3), 0.2),
    "carrier": Vehicle(7.4, 2.9, 1.9, (1.2, 1.2, 2.4), -1.0),
    "truck": Vehicle(6.6, 2.5, 1.5, (2.0, 2.5, 2.7), -2.2),
}
PIXEL = 0.2  # m, of the vehicle scene; its resolution is 0.3 m


def vehicle(size: int, looks: int, split: str, targets: bool, rng: np.random.Generator) -> Scene:
    """A vehicle with its shadow on ground clutter, one look at 0.3 m, seen at 17° (train) or 15° (test)."""
    shape = (size + 2 * MARGIN,) * 2
    category = sorted(VEHICLES)[rng.integers(len(VEHICLES))]
    tangent = np.tan(np.deg2rad(17 if split == "train" else 15))
    ground = np.exp(0.12 * gaussian_field(shape, 14, rng)) * gamma_texture(shape, rng.uniform(3, 8), 1.2, rng)
    mask, shadow, points = np.zeros(shape, bool), np.zeros(shape, bool), NOTHING
    if targets:
        height = _vehicle_height(shape, VEHICLES[category], rng.uniform(0, 2 * np.pi), rng)
        ray = np.zeros(shape)  # height of the lowest visible ray over each pixel, from the near edge outward
        for row in range(shape[0] - 2, -1, -1):
            ray[row] = np.maximum(height[row + 1], ray[row + 1]) - PIXEL * tangent
        shadow = (ray > height) & (height == 0)
        strength = rng.choice([1.0, 0.7, 0.45], p=[0.6, 0.25, 0.15])
        points = _vehicle_points(height, height >= ray, tangent, strength, rng)
        mask = _draw(points, shape) | (height > 0)
        # Some ground light is scattered into the shadow, most where its edge is near.
        ground = ground * np.clip(ndimage.gaussian_filter((~shadow).astype(float), 1.5) ** 3, 0.01, 1)
        ground[(height > 0) & (height >= ray)] *= 2.5 * strength
    system = System(1.5, 35.0, looks, noise=rng.uniform(0.04, 0.09))
    image = _grey(intensity(ground, points, system, rng), rng.uniform(14, 24))
    return Scene(image, _crop(mask | shadow), category, _crop(mask))


def _vehicle_height(
    shape: tuple[int, int], body: Vehicle, heading: float, rng: np.random.Generator
) -> np.ndarray:
    """Height map in m of a vehicle at a heading, near the middle."""
    row, column = np.indices(shape) - np.array(shape)[:, None, None] / 2 - rng.uniform(-4, 4, (2, 1, 1))
    along = PIXEL * (row * np.sin(heading) + column * np.cos(heading))
    across = PIXEL * (-row * np.cos(heading) + column * np.sin(heading))
    hull = (np.abs(along) < body.length / 2) & (np.abs(across) < body.width / 2)
    length, width, top = body.raised
    raised = (np.abs(along - body.offset) < length / 2) & (np.abs(across) < width / 2)
    return np.where(raised, top, np.where(hull, body.height, 0.0))


def _vehicle_points(
    height: np.ndarray, visible: np.ndarray, tangent: float, strength: float, rng: np.random.Generator
) -> Scatterers:
    """Scatterers of a vehicle: strong where a wall meets the radar (dihedrals, corners), weak on its roofs.

    A point at height h is imaged h·tan(depression) nearer to the radar (layover).
    """
    step = height - np.roll(height, -1, axis=0)  # rise of the wall that faces the radar
    walls, roofs = np.argwhere(visible & (step > 0.3)), np.argwhere(visible & (height > 0))
    chosen_walls = walls[rng.random(len(walls)) < 0.9]
    chosen_roofs = roofs[rng.random(len(roofs)) < 0.13]
    corners = walls[rng.integers(len(walls), size=rng.integers(2, 6))]
    strengths = [rng.gamma(1.2, 12.0, len(chosen_walls)), rng.gamma(0.8, 8.0, len(chosen_roofs))]
    amplitude = np.concatenate([*strengths, rng.uniform(30, 80, len(corners))])
    cells = np.concatenate([chosen_walls, chosen_roofs, corners])
    # A wall's return sits between its foot (double bounce) and its top; a roof's at its own height.
    up = np.where(np.arange(len(cells)) < len(chosen_walls), rng.random(len(cells)), 1.0)
    row = cells[:, 0] + up * height[cells[:, 0], cells[:, 1]] * tangent / PIXEL
    jitter = rng.uniform(-0.5, 0.5, (2, len(cells)))
    return np.stack([row + jitter[0], cells[:, 1] + jitter[1], strength * amplitude])


def sea(size: int, looks: int, split: str, targets: bool, rng: np.random.Generator) -> Scene:
    """Ships on an open sea with swell and wind streaks."""
    shape = (size + 2 * MARGIN,) * 2
    water = _sea_clutter(shape, rng)
    mask, points = np.zeros(shape, bool), NOTHING
    if targets:
        for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])):
            centre = MARGIN + rng.uniform(0.12, 0.88, 2) * size
            hull, more = _ship(shape, centre, rng.uniform(0, np.pi), rng.uniform(7, 30), rng)
            if not (ndimage.binary_dilation(hull, iterations=6) & mask).any():
                mask, points = mask | hull, np.hstack([points, more])
    weight = None if rng.random() < 0.4 else 25.0
    system = System(rng.uniform(1.4, 2.2), weight, looks, noise=rng.uniform(0.05, 0.3))
    return Scene(_grey(intensity(water, points, system, rng), rng.uniform(14, 42)), _crop(mask), "ship")


def _sea_clutter(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Clutter power of a sea: K-distributed, modulated by swell (a narrow band of waves) and wind streaks."""
    row, column = np.indices(shape)
    heading, wavelength = rng.uniform(0, np.pi), rng.uniform(9, 22)
    swell = np.zeros(shape)
    for _ in range(12):
        angle, length = heading + rng.normal(0, 0.2), wavelength * np.exp(rng.normal(0, 0.15))
        across = row * np.sin(angle) + column * np.cos(angle)
        swell += np.cos(2 * np.pi * across / length + rng.uniform(0, 2 * np.pi))
    wide = gaussian_field((2 * shape[0],) * 2, (2.5, 40), rng)
    streaks = ndimage.rotate(wide, rng.uniform(0, 180), reshape=False)
    top = shape[0] // 2
    streaks = streaks[top : top + shape[0], top : top + shape[1]]
    tilt = rng.uniform(0.05, 0.3) * swell / np.sqrt(6) + rng.uniform(0.05, 0.3) * streaks / streaks.std()
    slow = np.exp(tilt) * np.exp(0.12 * gaussian_field(shape, 30, rng))
    return slow * gamma_texture(shape, rng.uniform(2.5, 12), 1.5, rng)


def _ship(
    shape: tuple[int, int], centre: np.ndarray, heading: float, length: float, rng: np.random.Generator
) -> tuple[Mask, Scatterers]:
    """Hull mask and scatterers of a ship: pointed bow, bright superstructure aft, hull edge and deck gear."""
    width = max(length / rng.uniform(4, 6.5), 2.2)
    row, column = np.indices(shape) - centre[:, None, None]
    along = row * np.sin(heading) + column * np.cos(heading)
    across = -row * np.cos(heading) + column * np.sin(heading)
    taper = np.clip((length / 2 - along) / (0.3 * length), 0, 1)  # 1 aft, narrowing to the bow
    hull = (np.abs(along) <= length / 2) & (np.abs(across) <= np.maximum(width / 2 * taper, 0.6))
    count = int(rng.uniform(0.25, 0.5) * length * width) + 5
    house = rng.uniform(-0.4, -0.25) if rng.random() < 0.7 else rng.uniform(0.1, 0.3)
    at_house = rng.random(count) < 0.35
    u = np.where(at_house, rng.normal(house, 0.05, count), rng.uniform(-0.48, 0.46, count)) * length
    v = rng.uniform(-0.45, 0.45, count) * width * np.clip((length / 2 - u) / (0.3 * length), 0.2, 1)
    strength = rng.choice([1.0, 0.55, 0.3], p=[0.55, 0.25, 0.2])
    amplitude = strength * rng.gamma(1.3, 12.0, count)
    amplitude[rng.integers(count, size=rng.integers(1, 4))] *= 3
    rows = centre[0] + u * np.sin(heading) - v * np.cos(heading)
    columns = centre[1] + u * np.cos(heading) + v * np.sin(heading)
    return hull, np.stack([rows, columns, amplitude])


def harbour(size: int, looks: int, split: str, targets: bool, rng: np.random.Generator) -> Scene:
    """A harbour: land with buildings and roads, quays and piers, calm water with ships."""
    shape = (size + 2 * MARGIN,) * 2
    row, column = np.indices(shape) - shape[0] / 2
    turn = rng.uniform(0, 2 * np.pi)
    along = row * np.sin(turn) + column * np.cos(turn)  # along the quay
    inland = -row * np.cos(turn) + column * np.sin(turn) - rng.uniform(-0.05, 0.25) * size  # > 0 on land
    land = inland > 0
    for start in np.arange(-size, size, rng.uniform(34, 60)) + rng.uniform(0, 30):
        if rng.random() < 0.7:
            pier = (np.abs(along - start) < rng.uniform(3, 6)) & (inland > -rng.uniform(18, 45))
            land |= pier & (inland <= 0)
    water = 0.12 * np.exp(0.15 * gaussian_field(shape, 20, rng)) * gamma_texture(shape, 8, 1.5, rng)
    soil = rng.uniform(0.7, 1.3) * np.exp(0.35 * gaussian_field(shape, 9, rng))
    soil = soil * gamma_texture(shape, 2.5, 1.2, rng)
    for offset in rng.uniform(10, 70, rng.integers(1, 4)):  # roads, parallel to the quay and across
        soil[np.abs(inland - offset) < 1.3] *= 0.15
        soil[(np.abs(along - 2.5 * (offset - 40)) < 1.3) & (inland > 4)] *= 0.15
    ground, points = np.where(land, soil, water), _buildings(along, inland, rng)
    quay = np.argwhere(land & ~ndimage.binary_erosion(land))
    quay = quay[rng.random(len(quay)) < 0.12]  # bollards, cranes, fenders
    points = np.hstack([points, [*quay.T, rng.gamma(1.0, 2.5, len(quay))]])
    mask = np.zeros(shape, bool)
    if targets:
        mask, points = _moored(land, mask, points, turn, size, rng)
    system = System(rng.uniform(1.2, 1.5), 25.0, looks, noise=0.02)
    return Scene(_grey(intensity(ground, points, system, rng), rng.uniform(24, 38)), _crop(mask), "ship")


def _buildings(along: np.ndarray, inland: np.ndarray, rng: np.random.Generator) -> Scatterers:
    """Buildings on land: rows of strong scatterers along their walls (dihedrals with the street)."""
    points = NOTHING
    for _ in range(rng.integers(4, 12)):
        a, b = rng.uniform(-70, 70), rng.uniform(12, 90)
        inside = (np.abs(along - a) < rng.uniform(3, 8)) & (np.abs(inland - b) < rng.uniform(2, 5))
        wall = np.argwhere(inside & ~ndimage.binary_erosion(inside))
        wall = wall[rng.random(len(wall)) < 0.5]
        strength = rng.uniform(2, 6)
        points = np.hstack([points, [*wall.T, rng.gamma(1.2, strength, len(wall))]])
    return points


def _moored(
    land: np.ndarray, mask: np.ndarray, points: Scatterers, turn: float, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, Scatterers]:
    """Add one to four ships to free water, some alongside a pier, none ashore and none over another."""
    wanted, distance = rng.integers(1, 5), ndimage.distance_transform_edt(~land)
    for _ in range(60):
        centre = MARGIN + rng.uniform(0.06, 0.94, 2) * size
        moored = distance[tuple(centre.astype(int))] < 8
        heading = turn + np.pi / 2 + rng.choice([0, np.pi]) if moored else rng.uniform(0, 2 * np.pi)
        hull, more = _ship(land.shape, centre, heading, rng.uniform(9, 26), rng)
        if not (ndimage.binary_dilation(hull) & (land | ndimage.binary_dilation(mask, iterations=3))).any():
            mask, points, wanted = mask | hull, np.hstack([points, more]), wanted - 1
        if wanted == 0:
            break
    return mask, points


def _grey(power: Float[np.ndarray, "wide_row wide_column"], mean: float) -> Grey:
    """8-bit amplitude, cut at 255, with the scene's median at about `mean`; the margin is removed."""
    amplitude = _crop(np.sqrt(power))
    return np.clip(np.rint(amplitude * mean / np.median(amplitude)), 0, 255).astype(np.uint8)


def _crop(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array[MARGIN:-MARGIN, MARGIN:-MARGIN])


def _draw(points: Scatterers, shape: tuple[int, int]) -> Mask:
    """Pixels within 1 px of a scatterer."""
    mask = np.zeros(shape, bool)
    mask[tuple(np.rint(points[:2]).astype(int))] = True
    return ndimage.binary_closing(ndimage.binary_dilation(mask), iterations=2)


class Kind(NamedTuple):
    """A simulated dataset: its title, its scene, its usual looks, how normals come about, how many scenes
    there are, and the share of them that hold no target."""

    title: str
    scene: Callable[[int, int, str, bool, np.random.Generator], Scene]
    looks: int
    removal: str
    scenes: int
    background_share: float


SCENES = {
    "demo_vehicle": Kind("Simulated vehicles", vehicle, 1, "kmeans", 60, 0.0),
    "demo_sea": Kind("Simulated open sea", sea, 3, "mask", 60, 0.0),
    "demo_harbour": Kind("Simulated harbour", harbour, 2, "none", 80, 0.6),
}
