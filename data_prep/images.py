"""Reading images: grey arrays from PNG, JPEG, TIFF and NumPy files, or one line that says what is wrong."""

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from jaxtyping import Bool, Num, Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from data_prep.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy"}
MOST_PIXELS = 2**30  # of one file; a decompression bomb is refused before it is decoded
ROWS = 256  # that are scaled at a time, so that a large image needs no floating-point copy of itself
EMPTY_BORDER = 0.01  # least share of zeros at an image's border that counts as absent data
NODATA_TAG = 42113  # GDAL_NODATA
Image.MAX_IMAGE_PIXELS = None  # `MOST_PIXELS` is checked instead

Grey = UInt8[np.ndarray, "row column"]  # 8-bit levels
Mask = Bool[np.ndarray, "row column"]


def list_images(folder: Path) -> list[Path]:
    """Image files of one folder, sorted by name; hidden files are left out (`passed_over` counts them)."""
    return sorted(p for p in _entries(folder) if _is_image(p, SUFFIXES))


def passed_over(folders: Iterable[Path], suffixes: set[str] = SUFFIXES) -> Counter[str]:
    """What `list_images` does not take from these folders, counted by kind."""
    found: Counter[str] = Counter()
    for folder in folders:
        for path in _entries(folder):
            if not _is_image(path, suffixes):
                kind = "hidden" if path.name.startswith(".") else path.suffix.lower() or "nameless"
                kind = f"{kind} files" if path.is_file() else "broken links"
                found["sub-folders" if path.is_dir() else kind] += 1
    return found


def words(counts: Counter[str]) -> str:
    """Counts as one phrase: `5 .bmp files, 1 sub-folders`, or `none`."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "none"


def _is_image(path: Path, suffixes: set[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        expected, advice = "a readable folder of images", "check path and permissions"
        raise DataError(folder, expected, str(error.strerror), advice) from None


def read_values(path: Path) -> tuple[Num[np.ndarray, "row column"], Mask | None]:
    """Grey image (magnitude, where it is complex), and where it holds data; None: everywhere.

    No data are: NaN and infinity, the value that the tag GDAL_NODATA names, and, unless the image is 8-bit,
    zeros that reach in from its border over at least `EMPTY_BORDER` of it. Without any data it is a
    DataError.
    """
    array, nodata = _read(path, "L")
    values = _grey(array)
    if np.iscomplexobj(values):
        values = np.abs(values)
    absent = ~np.isfinite(values)
    if nodata is not None:  # a float32 holds -3.4e38 with fewer digits than the tag
        absent |= values == (np.float32(nodata) if values.dtype == np.float32 else nodata)
    if values.dtype != np.uint8:
        absent |= _empty_border(values)
    if absent.all():
        raise DataError(path, "pixels with data", "none", "remove it")
    return values, ~absent if absent.any() else None


def _empty_border(values: Num[np.ndarray, "row column"]) -> Mask:
    """Zeros connected to the border, as a rotated or cut product has them; none where they are few."""
    zero = values == 0
    edge = np.concatenate([zero[0], zero[-1], zero[:, 0], zero[:, -1]])
    if not edge.any() or zero.mean() < EMPTY_BORDER:
        return np.zeros_like(zero)
    _, labels = cv2.connectedComponents(zero.astype(np.uint8))
    outer = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    border = np.isin(labels, np.unique(outer[edge]))
    return border if border.mean() >= EMPTY_BORDER else np.zeros_like(zero)


def _read(path: Path, other: str) -> tuple[np.ndarray, float | None]:
    """Pixels [row, column] or [row, column, 3], and the value of no data.

    Palettes and the like are converted to the mode `other`.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(path, "an image", "an empty file", "fetch it again or remove it")
        array, nodata = _decode(path, other)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(path, "an image", "another kind of file", "remove it or rename it") from None
    except MemoryError:
        raise DataError(path, "memory for it", "too little", "cut it, or use fewer processes") from None
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        found = str(error) or type(error).__name__
        raise DataError(path, "a whole image", found, "fetch it again or remove it") from None
    if array.size == 0 or array.dtype.kind not in "buifc" or not (array.ndim == 2 or array.shape[2:] == (3,)):
        found = f"an array of shape {array.shape} and type {array.dtype}"
        raise DataError(path, "a grey or RGB image", found, "export one band")
    return array, nodata


def _decode(path: Path, other: str) -> tuple[np.ndarray, float | None]:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        _check_size(path, stored.size, 1)
        array = np.array(stored)
        if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]):
            array = array.squeeze(0 if array.shape[0] == 1 else -1)
        return array, None
    if suffix in (".tif", ".tiff"):
        return _decode_tiff(path)
    with Image.open(path) as image:
        _check_size(path, *image.size)
        if image.format == "PNG" and image.mode in ("RGB", "RGBA"):
            content = np.fromfile(path, np.uint8)
            if content[24] == 16:  # bits per channel; Pillow would give the upper eight of them
                return np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED))[..., 2::-1], None
        # Only these modes hold pixel values; a palette or CMYK image holds indices or inks.
        keep = image.mode in ("L", "RGB", "RGBA", "F", "I") or image.mode.startswith("I;16")
        array = np.asarray(image if keep else image.convert(other))
        return array[..., :3] if image.mode == "RGBA" else array, None


def _decode_tiff(path: Path) -> tuple[np.ndarray, float | None]:
    """The first image of a TIFF file (overviews and masks follow it), and the value of no data."""
    with tifffile.TiffFile(path) as file:
        series: Any = file.series[0]
        page = series.keyframe
        _check_size(path, page.imagewidth, page.imagelength)
        array, kind, values = series.asarray(squeeze=False), page.photometric, tifffile.PHOTOMETRIC
        axes = list(series.get_axes(squeeze=False))
        for place in reversed(range(array.ndim)):
            if array.shape[place] == 1 and axes[place] not in "YX":
                array, axes = array.squeeze(place), axes[:place] + axes[place + 1 :]
        if "S" in axes:
            array = np.moveaxis(array, axes.index("S"), -1)
            if page.extrasamples and page.extrasamples[-1] in (1, 2):  # alpha
                array = array[..., 0] if array.shape[-1] == 2 else array[..., :-1]
        if array.ndim != 2 and not ("S" in axes and kind in (values.RGB, values.YCBCR)):
            found = f"{' x '.join(map(str, array.shape))} values (axes {''.join(axes)}, {kind.name})"
            raise DataError(path, "a grey or RGB image", found, "export one band")
        if kind == values.PALETTE:
            array = np.moveaxis(page.colormap[:, array] >> 8, 0, -1).astype(np.uint8)
        elif kind == values.MINISWHITE:
            if array.dtype.kind not in "ub":
                expected = "whole numbers from 0 where 0 is white"
                raise DataError(path, expected, f"{array.dtype}", "export it as MinIsBlack")
            array = ~array if array.dtype == bool else array.dtype.type(2**page.bitspersample - 1) - array
        nodata = None
        if tag := file.pages[0].tags.get(NODATA_TAG):  # type: ignore[union-attr]
            with contextlib.suppress(ValueError, AttributeError):  # "n/a"
                nodata = float(tag.value.strip("\0 "))
        return array, nodata


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise DataError(path, f"at most {MOST_PIXELS} pixels", f"{width}x{height}", "cut it into several")


def _grey(array: np.ndarray) -> np.ndarray:
    """ITU-R 601 luminance of [row, column, 3] in the same number type; equal channels keep their value."""
    array = array.astype(np.uint8) * 255 if array.dtype == bool else array
    if array.ndim == 2:
        return array
    if (array[..., 0] == array[..., 1]).all() and (array[..., 0] == array[..., 2]).all():
        return array[..., 0]
    grey = array.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return grey.astype(array.dtype) if array.dtype.kind == "f" else np.rint(grey).astype(array.dtype)


def read_grey8(path: Path) -> Grey:
    """Grey image that must be 8-bit, as those of the public releases are."""
    image = _grey(_read(path, "L")[0])
    if image.dtype != np.uint8:
        raise DataError(path, "an 8-bit image", f"{image.dtype}", "prepare it as dataset 'folder'")
    return image


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """Mask of an image of `size` (rows, columns): True where any channel exceeds half of the range.

    Half, and not zero: masks kept as JPEG ring around their edges. A mask of 0 and 1 counts as well. A
    missing mask, one of another size and an empty one are DataErrors.
    """
    if not path.exists():
        raise DataError(path, "the mask of an image with targets", "no file", "add it")
    array = _read(path, "RGB")[0]
    if array.ndim == 3:
        array = array.max(axis=-1)
    if array.shape != size:
        expected, found = (f"{columns}x{rows}" for rows, columns in (size, array.shape))
        raise DataError(path, f"a mask of {expected} like its image", found, "replace it")
    top = array.max()
    mask = array > (0 if top <= 1 else 127 if array.dtype == np.uint8 else top / 2)
    if not mask.any():
        raise DataError(path, "at least one target pixel", "an empty mask", "replace it")
    return mask


def to_grey8(values: Num[np.ndarray, "row column"], black: float, white: float) -> Grey:
    """Linear grey levels: `black` becomes 0, `white` 255, and what lies beyond is cut."""
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), ROWS):
        part = values[top : top + ROWS].astype(np.float64)
        part = np.nan_to_num(part, nan=black, posinf=white, neginf=black) - black
        grey[top : top + ROWS] = np.rint(np.clip(part * (255.0 / (white - black)), 0, 255))
    return grey


def pixel_key(image: Shaped[np.ndarray, "row column"]) -> Hashable:
    """What two images share only where their pixels are identical."""
    return image.shape, image.dtype.str, hashlib.sha256(np.ascontiguousarray(image).data).digest()


def alike(keys: Mapping[str, Hashable]) -> list[list[str]]:
    """Groups of names that have the same key."""
    groups = defaultdict(list)
    for name, key in keys.items():
        groups[key].append(name)
    return [group for group in groups.values() if len(group) > 1]
