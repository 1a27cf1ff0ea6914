"""Reading images: grey arrays from PNG, JPEG, TIFF and NumPy files, or one line that says what is wrong."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import tifffile
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from data_prep.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy"}


def list_images(folder: Path, suffixes: set[str] = SUFFIXES) -> list[Path]:
    """Image files of one folder, sorted by name; hidden files are left out.

    Raises:
        DataError: where the folder is missing or may not be read.
    """
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    except OSError as error:
        raise DataError(
            folder, "a readable folder of images", str(error.strerror), "check path and permissions"
        ) from None
    return sorted(found)


def read_image(path: Path) -> Shaped[np.ndarray, "row column"]:
    """Grey image in the file's own number type; colour becomes luminance (ITU-R 601), alpha is dropped.

    Raises:
        DataError: where the file is empty, cut short, no image, not 2-D, or holds NaN or infinity.
    """
    array = _read(path, "L")
    if array.ndim == 3:
        array = _luminance(array)
    if np.iscomplexobj(array):
        array = np.abs(array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise DataError(path, "finite pixels", f"{bad} NaN or infinite ones", "mask or interpolate them")
    return array


def _read(path: Path, other: str) -> np.ndarray:
    """Pixels [row, column] or [row, column, 3]; palettes and the like are converted to the mode `other`."""
    try:
        if path.stat().st_size == 0:
            raise DataError(path, "an image", "an empty file", "fetch it again or remove it")
        array = _decode(path, other)
    except UnidentifiedImageError:
        raise DataError(path, "an image", "another kind of file", "remove it or rename it") from None
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(path, "a whole image", str(error), "fetch it again or remove it") from None
    shape = array.shape
    if array.ndim == 3 and shape[-1] == 4:
        array = array[..., :3]
    elif array.ndim == 3 and 1 in (shape[0], shape[-1]):
        array = array.squeeze(0 if shape[0] == 1 else -1)
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3)):
        raise DataError(path, "a grey or RGB image", f"an array of shape {shape}", "export one band")
    return array


def _decode(path: Path, other: str) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix in (".tif", ".tiff"):
        return tifffile.imread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            image.load()
            if image.format == "PNG" and image.mode in ("RGB", "RGBA"):
                content = np.fromfile(path, np.uint8)
                if content[24] == 16:  # bits per channel; Pillow would give the upper eight of them
                    return np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED))[..., 2::-1]
            # Only these modes hold pixel values; a palette or CMYK image holds indices or inks.
            keep = image.mode in ("L", "RGB", "RGBA", "F", "I") or image.mode.startswith("I;16")
            return np.asarray(image if keep else image.convert(other))


def _luminance(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 luminance of [row, column, 3] in the same number type; equal channels keep their value."""
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all():
        return rgb[..., 0]
    grey = rgb.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return grey.astype(rgb.dtype) if rgb.dtype.kind == "f" else np.rint(grey).astype(rgb.dtype)


def read_grey8(path: Path) -> UInt8[np.ndarray, "row column"]:
    """Grey image that must be 8-bit, as those of the public releases are.

    Raises:
        DataError: as `read_image`, and where the image is not 8-bit.
    """
    image = read_image(path)
    if image.dtype != np.uint8:
        raise DataError(path, "an 8-bit image", f"{image.dtype}", "prepare it as dataset 'folder'")
    return image


def read_mask(path: Path, size: tuple[int, int]) -> Bool[np.ndarray, "row column"]:
    """Mask of an image of `size` (rows, columns): True where any channel exceeds half of the range.

    Half, and not zero: masks kept as JPEG ring around their edges. A mask of 0 and 1 counts as well.

    Raises:
        DataError: where the mask is missing, of another size, or empty.
    """
    if not path.exists():
        raise DataError(path, "the mask of an image with targets", "no file", "add it")
    array = _read(path, "RGB")
    if array.ndim == 3:
        array = array.max(axis=-1)
    if array.shape != size:
        raise DataError(
            path,
            f"a mask of {size[1]}x{size[0]} like its image",
            f"{array.shape[1]}x{array.shape[0]}",
            "replace it",
        )
    top = array.max()
    mask = array > (0 if top <= 1 else 127 if array.dtype == np.uint8 else top / 2)
    if not mask.any():
        raise DataError(path, "at least one target pixel", "an empty mask", "replace it")
    return mask


def to_grey8(
    values: Shaped[np.ndarray, "row column"], black: float, white: float
) -> UInt8[np.ndarray, "row column"]:
    """Linear grey levels: `black` becomes 0, `white` 255, and what lies beyond is cut."""
    scaled = (values.astype(np.float64) - black) * (255.0 / (white - black))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
