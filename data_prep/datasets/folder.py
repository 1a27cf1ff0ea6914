"""A user's own data: a folder of normal images, one of anomalous images, optionally one of masks."""

import hashlib
import re
import unicodedata
from collections import Counter, namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field, field_validator, model_validator

from data_prep import images
from data_prep.dataset import Dataset, Item, Record, Report
from data_prep.erased import NO_DATA, RemovalParameters, anomalous_and_erased
from data_prep.errors import DataError

SAMPLE = 2**22  # pixels of an image that its grey levels are judged by
LARGE = 4096  # px; beyond this side a whole image is too large for what comes next


class Parameters(RemovalParameters):
    """Names of the folders, and how images become 8-bit."""

    normal_dir: str = Field(default="normal", pattern="^[^/]", description="folder of the normal images")
    anomalous_dir: str = Field(default="anomalous", pattern="^[^/]", description="of the anomalous images")
    mask_dir: str = Field(default="masks", pattern="^[^/]", description="folder of their masks")
    category: str = Field(default="target", min_length=1, description="what the targets are called")
    train_share: float = Field(default=0.5, ge=0, le=1, description="share of them that make signatures")
    black: float | None = Field(default=None, description="value that becomes 0; found from the images")
    white: float | None = Field(default=None, description="value that becomes 255; found from the images")
    scene: str = Field(
        default=r"([^/]+)\.[^./]+$",
        description="regular expression whose group finds the scene in a path",
    )

    @field_validator("scene")
    @classmethod
    def _scene_has_a_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from None
        if not groups:
            raise ValueError("a regular expression with a group in parentheses")
        return pattern

    @model_validator(mode="after")
    def _words_and_levels_differ(self) -> "Parameters":
        if self.category == "background":
            raise ValueError("another category than that of normal images")
        if self.black is not None and self.white is not None and self.white <= self.black:
            raise ValueError("white above black")
        return self


def items(raw: Path, parameters: Parameters) -> tuple[list[Item], Report]:
    """The images of both folders, and masks by name: every anomalous image has one, or none has."""
    normal_dir, mask_dir = raw / parameters.normal_dir, raw / parameters.mask_dir
    normals = images.list_images(normal_dir) if normal_dir.is_dir() else []
    left_out = images.passed_over(folder for folder in (normal_dir, mask_dir) if folder.is_dir())
    if not normals and parameters.removal == "none":
        raise _nothing(normal_dir, "add some, or set removal to mask or kmeans")
    masks = _by_name(images.list_images(mask_dir)) if mask_dir.is_dir() else {}
    found = [
        Item(f"normal_{path.stem}", path.relative_to(raw).as_posix(), "train", "background", (path,))
        for path in normals
    ]
    for path, split in _anomalous(raw / parameters.anomalous_dir, parameters.train_share, left_out):
        if mask_dir.is_dir() and _key(path) not in masks:
            raise DataError(path, f"a mask {path.stem}.png in {mask_dir}", "none", "add it, or remove all")
        files = (path, masks.pop(_key(path))) if mask_dir.is_dir() else (path,)
        source = path.relative_to(raw).as_posix()
        found.append(Item(path.stem, source, split, parameters.category, files))
    for path in list(masks.values())[:1]:
        raise DataError(path, f"an anomalous image named {path.stem}", "none", "remove the mask")
    facts = {item.source: _look(item.files[0]) for item in found}
    black, white = _scale(found, facts, parameters)
    report: Report = {"left_out": left_out, "black": black, "white": white, "doubts": []}
    if black < 0 and parameters.black is None:
        report["doubts"].append(f"Values below 0 (decibels?): black is {black:g}, white {white:g}.")
    large = [source for source, fact in facts.items() if max(fact.size) > LARGE]
    if large and not parameters.tile_size:
        report["doubts"].append(f"{len(large)} images have sides above {LARGE} px: set tile_size.")
    report["duplicate_groups"] = images.alike({source: fact.pixels for source, fact in facts.items()})
    normal = {item.source for item in found if item.category == "background"}
    both = [group for group in report["duplicate_groups"] if 0 < len(normal & set(group)) < len(group)]
    if both:
        text = f"{len(both)} images are normal and anomalous at once, among them {' and '.join(both[0][:2])}."
        report["doubts"].append(text)
    return [replace(i, extra=(black, white), scene=_scene(i, parameters.scene)) for i in found], report


def _scene(item: Item, pattern: str) -> str:
    """The scene that an image's path in the raw folder names."""
    found = re.search(pattern, item.source)
    if not found or not found[1]:
        expected = f"a path in which {pattern!r} finds a scene"
        raise DataError(item.files[0], expected, item.source, "change the parameter scene")
    return found[1]


def _nothing(folder: Path, advice: str) -> DataError:
    """The error of a folder without images, which says what lies there instead."""
    beside = sorted(p.name for p in folder.parent.glob("*") if p.is_dir())
    found = f"no such folder beside {', '.join(beside[:8]) or 'others'}"
    found = images.words(images.passed_over([folder])) if folder.is_dir() else found
    return DataError(folder, f"images ({', '.join(sorted(images.SUFFIXES))})", found, advice)


def _key(path: Path) -> str:
    """The name by which a mask is found; letters with accents can be written in two ways."""
    return unicodedata.normalize("NFC", path.stem)


def _by_name(paths: list[Path]) -> dict[str, Path]:
    by_name: dict[str, Path] = {}
    for path in paths:
        other = by_name.setdefault(_key(path), path)
        if other is not path:
            raise DataError(path, f"one file named {path.stem}", f"also {other.name}", "rename one")
    return by_name


def _anomalous(folder: Path, train_share: float, left_out: Counter[str]) -> list[tuple[Path, str]]:
    """Anomalous images with their split: by folders train/ and test/, else a fixed share drawn by name.

    The training split's images serve as target signatures, so it gets at least one.
    """
    splits = [folder / "train", folder / "test"]
    if all(path.is_dir() for path in splits):
        found = [(path, part.name) for part in splits for path in images.list_images(part)]
        left_out += images.passed_over(splits)
        left_out += images.passed_over([folder], set()) - Counter({"sub-folders": 2})
    elif folder.is_dir():
        ranked = sorted(images.list_images(folder), key=lambda p: hashlib.sha256(p.stem.encode()).digest())
        train = max(1, round(train_share * len(ranked)))
        found = [(path, "train" if rank < train else "test") for rank, path in enumerate(ranked)]
        left_out += images.passed_over([folder])
    else:
        found = []
    if not found:
        raise _nothing(folder, "add images with targets")
    return sorted(found)


_Look = namedtuple("_Look", "kind low high size pixels")  # what is seen of an image before any is prepared


def _look(path: Path) -> _Look:
    values, valid = images.read_values(path)
    kind = "8-bit" if values.dtype == np.uint8 else "floating point" if values.dtype.kind == "f" else "whole"
    step = int(np.ceil(np.sqrt(values.size / SAMPLE)))
    sample = values[::step, ::step] if valid is None else values[::step, ::step][valid[::step, ::step]]
    sample = sample if sample.size else values[valid][:SAMPLE]
    low, high = np.percentile(sample, (1, 99.9))
    return _Look(kind, float(low), float(high), values.shape, images.pixel_key(values))


def _scale(found: list[Item], facts: dict[str, _Look], parameters: Parameters) -> tuple[float, float]:
    """The values that become 0 and 255, the same for all images.

    Those given; else 0 and 255 for 8-bit data, and for others 0 and the median over the images of their
    99.9th percentile, so that one bright image does not darken all. Where the median of the first percentile
    is below 0, as in decibels, black is that.
    """
    kinds = Counter(fact.kind for fact in facts.values())
    if len(kinds) > 1:
        rare = kinds.most_common()[-1][0]
        odd = next(item for item in found if facts[item.source].kind == rare)
        said = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        raise DataError(odd.files[0], "images of one number type", said, "convert them by one scale")
    black, high = (float(np.median([getattr(f, name) for f in facts.values()])) for name in ("low", "high"))
    black, white = (0.0, 255.0) if "8-bit" in kinds else (min(black, 0.0), high)
    black = black if parameters.black is None else parameters.black
    white = white if parameters.white is None else parameters.white
    if not np.finfo(np.float64).tiny < white - black < np.inf:
        expected, levels = "values between a black and a white", f"{black:g} and {white:g}"
        raise DataError(found[0].files[0], expected, levels, "set black and white")
    return black, white


def load(item: Item, parameters: Parameters, seed: int) -> list[Record]:
    """The image in 8 bits, by the grey scale that `items` found."""
    image, valid = images.read_values(item.files[0])
    if image.dtype != np.uint8 or item.extra != (0, 255):
        image = images.to_grey8(image, *item.extra)
    notes: tuple[str, ...] = ()
    if valid is not None:
        image, notes = image * valid, (NO_DATA,)
    if item.category == "background":
        about = (item.split, item.category, item.source)
        return [Record(item.name, "normal", *about, image, valid=valid, notes=notes)]
    mask = images.read_mask(item.files[1], image.shape) if len(item.files) > 1 else None
    return anomalous_and_erased(item, image, mask, parameters, seed, valid, notes)


DATASETS = {
    "folder": Dataset(
        title="Your own images",
        items=items,
        load=load,
        parameters=Parameters,
        defaults={"removal": "none"},
        layout="folders normal/ and anomalous/, and masks/ if you have them",
    )
}
