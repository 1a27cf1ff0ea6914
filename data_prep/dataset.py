"""What a dataset is: its facts, its parameters, the list of its images, and how one of them is read."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_prep.errors import DataError
from data_prep.images import Grey, Mask

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".rar")
Report = dict[str, Any]


class Options(BaseModel):
    """Values with a type, a range and a description each, which the command line shows as its options."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Run(Options):
    """How a preparation is run, whatever the dataset."""

    seed: int = Field(default=0, ge=0, lt=2**32, description="decides the fill, and the simulation")
    processes: int = Field(default=1, ge=1, le=256, description="worker processes")


class Parameters(Options):
    """Parameters of every dataset; a dataset adds its own in a subclass."""

    tile_size: int | None = Field(default=None, ge=16, le=8192, description="side of the tiles to cut, px")
    overlap: int = Field(default=0, ge=0, le=4096, description="overlap of neighbouring tiles, px")

    @model_validator(mode="after")
    def _overlap_is_part_of_a_tile(self) -> "Parameters":
        if 2 * self.overlap > (self.tile_size or 0):
            raise ValueError("an overlap of at most half of tile_size")
        return self


def checked(model: type[Options], values: Mapping[str, Any]) -> Any:
    """The options `values`; a DataError if one is unknown, of another type, or out of range."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str((*first["loc"], "parameters")[0])
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(model.model_fields))
            raise DataError("parameter", f"one of {known}", repr(name), "rename it") from None
        expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise DataError(name, expected, repr(values.get(name)), "change the parameter") from None


@dataclass(frozen=True)
class Item:
    """One unit of work: a raw image, the files it is made from, and what the release says of it."""

    name: str  # stem of the prepared files
    source: str  # relative path in the release
    split: str  # the release's own: train or test
    category: str  # column `class` of the manifest
    files: tuple[Path, ...]  # every raw file that decides the result
    extra: tuple = ()  # what else decides it: outlines from an annotation file, a grey scale
    scene: str = ""  # what other images show too; empty: no other does, and it is the item's name


@dataclass(frozen=True)
class Record:
    """One prepared image, before it is written."""

    name: str
    label: str  # normal or anomalous
    split: str
    category: str
    source: str
    image: Grey
    mask: Mask | None = None
    vehicle: Mask | None = None  # the mask without shadow and margin
    removed: float | None = None  # share of the release's target pixels that the removal filled
    valid: Mask | None = None  # where there is data; None: everywhere
    notes: tuple[str, ...] = ()  # what was replaced or is doubtful, for the report


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All that is said of a dataset anywhere: its title, its source, its licence, how it is read."""

    title: str  # what tables and pages call it
    items: Callable[[Path, Any], tuple[list[Item], Report]]  # lists the images of a raw folder, with a report
    load: Callable[[Item, Any, int], list[Record]]  # reads one, and makes its normal copy where there is one
    parameters: type[Parameters] = Parameters
    defaults: Mapping[str, Any] = field(default_factory=dict)  # other than those of `parameters`
    folder: str = ""  # its own in the folder of all releases; empty where nothing is to be fetched
    files: str = ""  # what to fetch
    site: str = ""  # from where
    layout: str = ""  # what lies there, unpacked
    licence: str = ""
    simulate: Callable[[Path, Any, int], None] | None = None  # makes the raw folder

    def find(self, raw: Path | str | None, out: Path) -> Path:
        """The raw folder: `raw` or its subfolder of this dataset; by default in PADIM_ACE_DATA.

        Raises:
            DataError: If none is given, or it is not there.
        """
        if self.simulate:
            return Path(raw) if raw else out.with_name(f"{out.name}_raw")
        raw = raw or (os.environ.get("PADIM_ACE_DATA") if self.folder else None)
        if not raw:
            advice = "give it" + ", or set PADIM_ACE_DATA" * bool(self.folder)
            raise DataError("raw", f"the folder that holds {self.title}", "none", advice)
        path = Path(raw)
        if self.folder and (path / self.folder).is_dir():
            path = path / self.folder
        if not path.is_dir():
            raise self.missing(path)
        return path

    def missing(self, raw: Path, found: str = "none") -> DataError:
        """The error of a release that is not where it should be: what to fetch, from where, to where."""
        names = sorted(p.name for p in raw.iterdir()) if raw.is_dir() else []
        archives = [name for name in names if name.lower().endswith(ARCHIVES)]
        if archives:
            advice = f"unpack it: python -m data_prep unpack {raw / archives[0]} {raw}"
            return DataError(raw, self.layout, f"the archive {archives[0]}", advice)
        advice = f"get {self.files} from {self.site} and unpack into {raw}" if self.site else "check the path"
        return DataError(raw, f"{self.title} as {self.layout}", found, advice)
