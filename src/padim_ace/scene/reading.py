"""Reading a scene: one band of a raster or an array, window by window, and what of it is valid.

Invalid are no-data values, what a mask or alpha band leaves out, NaN, infinities, and *blank* areas: zeros
that fill a square of :data:`BLANK` px, as the borders of radar products do. All that is done with a window is
local, so that it does not depend on where windows begin and end.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float

from padim_ace.scene.place import Place, SceneError, rasterio
from padim_ace.scene.scaling import Scaling

BLANK = 9
"""Side of the smallest square of zeros that is no data, in pixels: odd zeros are dark water."""
MIRROR = 64
"""How far into an invalid area the valid pixels beside it are mirrored, in pixels."""
ALONG = 40
"""How far the mirrored pixels are moved along the border: to a network, what is symmetric is no sea."""
GUARD = 8
"""How near to an invalid pixel no score is given, in pixels."""
SAMPLE = 256
"""Side of the windows that a scene's quantiles are estimated from, in pixels."""
Values = Float[np.ndarray, "row column"]
Valid = Bool[np.ndarray, "row column"]


class Window(NamedTuple):
    """Part of a scene: grey levels, mirrored where there are none, and which pixels get a score."""

    grey: Values
    scored: Valid


class Scene:
    """An open file of which one band is read; a context manager closes it."""

    def __init__(self, path: Path | str, band: str | int | None = None) -> None:
        """Open a raster that GDAL reads, or a ``.npy`` file (``[row, column]`` or ``[band, row, column]``).

        Args:
            path: the file.
            band: number, from 1, or name; the first if None.

        Raises:
            SceneError: for a file that can't be read, or a band that is not there.
        """
        self.path, self.place = Path(path), Place()
        self._raster: Any = None
        try:
            if self.path.suffix.lower() == ".npy":
                array = np.load(self.path, mmap_mode="r", allow_pickle=False)
                if array.ndim not in (2, 3) or array.dtype.kind not in "buifc":
                    raise ValueError(f"{array.dtype} of shape {array.shape}")
                self._array = array.reshape(-1, *array.shape[-2:])
                names, self.size, types = [None] * len(self._array), array.shape[-2:], [array.dtype]
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that it has no coordinates is no news
                    raster = self._raster = rasterio().open(self.path)
                names, self.size, types = raster.descriptions, raster.shape, raster.dtypes
                self.place = Place.of(raster)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split()).replace(f"{path}: ", "")
            raise SceneError(
                f"{path}: expected a raster or a .npy array of numbers, found {reason}"
            ) from None
        self.bands = [name or str(number) for number, name in enumerate(names, 1)]
        known = {str(number): number for number in range(1, len(names) + 1)}
        known |= {name.lower(): number for number, name in enumerate(self.bands, 1)}
        if band is not None and str(band).lower() not in known:
            raise SceneError(f"{path}: expected a band of {', '.join(known)}, found {band!r}")
        self.band = 1 if band is None else known[str(band).lower()]
        self.dtype = str(types[min(self.band, len(types)) - 1])

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        if self._raster is not None:
            self._raster.close()

    def read(self, rows: range, columns: range) -> tuple[Values, Valid]:
        """Values (of complex numbers the magnitude), and which are valid: none is beyond the border."""
        spans = list(zip((rows, columns), self.size, strict=True))
        part = tuple(slice(max(span.start, 0), max(min(span.stop, n), 0)) for span, n in spans)
        if self._raster is None:
            values = self._array[self.band - 1][part]
            valid = np.ones(values.shape, bool)
        else:
            window = rasterio().windows.Window.from_slices(*part)
            values = self._raster.read(self.band, window=window)
            valid = self._raster.read_masks(self.band, window=window) != 0
        values = (np.abs(values) if np.iscomplexobj(values) else values).astype(np.float32)
        valid &= np.isfinite(values)
        if (zero := values == 0).any():
            square = np.ones((BLANK, BLANK), np.uint8)
            valid &= cv2.morphologyEx(zero.astype(np.uint8), cv2.MORPH_OPEN, square) == 0
        beyond = [(p.start - s.start, s.stop - p.stop) for (s, _), p in zip(spans, part, strict=True)]
        return np.pad(values, beyond), np.pad(valid, beyond)

    def window(self, rows: range, columns: range, scaling: Scaling) -> Window:
        """A window as the network sees it."""
        halo = BLANK + GUARD
        values, valid = self._wider(rows, columns, halo)
        if not valid.all():
            halo += 2 * (MIRROR + ALONG)
            values, valid = self._wider(rows, columns, halo)
        grey, scored = scaling(values), valid
        if not valid.all():
            row, column = (np.arange(span.start - halo, span.stop + halo) for span in (rows, columns))
            inside = (row >= 0) & (row < self.size[0]), (column >= 0) & (column < self.size[1])
            scene, square = np.logical_and.outer(*inside), np.ones((2 * GUARD + 1,) * 2, np.uint8)
            scored = scene & (cv2.erode((valid | ~scene).astype(np.uint8), square) > 0)
            grey, known = mirror(grey, valid)
            grey[~known] = scaling.middle
        inner = slice(halo, -halo)
        return Window(np.ascontiguousarray(grey[inner, inner]), scored[inner, inner])

    def _wider(self, rows: range, columns: range, halo: int) -> tuple[Values, Valid]:
        return self.read(*(range(span.start - halo, span.stop + halo) for span in (rows, columns)))

    def small(self, longest: int) -> tuple[Values, int]:
        """Every n-th value, and n, so that no side is longer; NaN where they are not valid."""
        step = -(-max(self.size) // longest)
        if self._raster is None:
            values, mask = self._array[self.band - 1][::step, ::step], np.bool_(True)
        else:
            shape = tuple(-(-n // step) for n in self.size)
            values = self._raster.read(self.band, out_shape=shape)
            mask = self._raster.read_masks(self.band, out_shape=shape)
        return np.where(mask, np.abs(values).astype(np.float32), np.float32(np.nan)), step

    def sample(self, windows: int = 64) -> Float[np.ndarray, " value"]:
        """Valid values of windows that are spread evenly over the scene."""
        corners = [(r, c) for r in range(0, self.size[0], SAMPLE) for c in range(0, self.size[1], SAMPLE)]
        step = max(1, len(corners) // windows)
        found = []
        for corner in corners[step // 2 :: step]:
            part = (range(at, min(at + SAMPLE, n)) for at, n in zip(corner, self.size, strict=True))
            values, valid = self.read(*part)
            found.append(values[valid])
        return np.concatenate(found)


def mirror(values: Values, valid: Valid) -> tuple[Values, Valid]:
    """Valid pixels mirrored into invalid areas, along rows, then along columns, :data:`MIRROR` px deep.

    A border then looks to the network as the sea before it does. Returns the values, and which are known.
    """
    values, known = _mirror_rows(values, valid)
    values, known = _mirror_rows(values.T, known.T)
    return values.T, known.T


def _mirror_rows(values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, (height, length) = values.copy(), values.shape
    place = np.arange(length, dtype=np.int32)
    before = np.maximum.accumulate(np.where(valid, place, -length), 1)
    after = np.minimum.accumulate(np.where(valid, place, 2 * length)[:, ::-1], 1)[:, ::-1]
    nearest = np.where(place - before <= after - place, before, after)
    filled = ~valid & (np.abs(place - nearest) <= MIRROR)
    row, column = np.nonzero(filled)
    edge = nearest[row, column]
    source, beside = np.clip(2 * edge - column, 0, length - 1), np.minimum(row + ALONG, height - 1)
    beside = np.where(valid[beside, source], beside, row)
    values[row, column] = values[beside, np.where(valid[beside, source], source, edge)]
    return values, valid | filled
