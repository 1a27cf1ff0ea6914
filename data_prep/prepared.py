"""The prepared layout: one folder of PNG files and a manifest, the same for every dataset.

::

    <folder>/normal/<name>.png      8-bit grey, background only
    <folder>/anomalous/<name>.png   8-bit grey, with targets
    <folder>/masks/<name>.png       0 or 255, same name and size as the anomalous image
    <folder>/vehicles/<name>.png    the same of the vehicle alone, where the mask holds its shadow too
    <folder>/manifest.csv           one line per image, sorted by path
    <folder>/preparation.json       parameters, counts, versions, checksum of the raw files, reports

The manifest is written last, so a folder that has one is complete. `.journal.jsonl` holds one line per
finished item, from which a second run resumes.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from data_prep.dataset import Record
from data_prep.errors import DataError
from data_prep.files import sha256, write_atomic, write_if_changed
from data_prep.images import Grey

COLUMNS = [
    *("path", "split", "label", "mask", "vehicle", "class", "scene", "source"),
    *("width", "height", "sha256"),
]
MASKS = {"mask": "masks", "vehicle": "vehicles"}  # column -> folder
LABELS = {"normal": "normal", "anomalous": "anomalous"}  # label -> folder
JOURNAL = ".journal.jsonl"


def encode_png(image: Grey) -> bytes:
    """PNG bytes of an 8-bit grey image."""
    return cv2.imencode(".png", image)[1].tobytes()


def check_name(name: str, source: str) -> None:
    """Refuse a name, which a raw file may have given, that is not one plain file name.

    Raises:
        DataError: If it could lead out of the folder, or no file system would take it.
    """
    plain = name.isprintable() and not set(name) & set("/\\") and not name.startswith(".")
    if not name or not plain or len(name.encode(errors="replace")) > 240:
        raise DataError(source, "a plain name of at most 240 bytes", repr(name[:60]), "rename the file")


def write_record(folder: Path, record: Record) -> dict[str, Any]:
    """Write one image, and its masks where it has any; its line of the manifest but for the scene."""
    check_name(record.name, record.source)
    content = encode_png(record.image)
    path = f"{LABELS[record.label]}/{record.name}.png"
    row = {"path": path, "split": record.split, "label": record.label}
    for column, sub in MASKS.items():
        mask = getattr(record, column)
        row[column] = "" if mask is None else f"{sub}/{record.name}.png"
        if mask is not None:
            (folder / sub).mkdir(exist_ok=True)  # a dataset without masks has no such folder
            write_atomic(folder / row[column], encode_png(mask.astype(np.uint8) * 255))
    write_atomic(folder / path, content)
    height, width = record.image.shape
    row |= {"class": record.category, "source": record.source, "width": width, "height": height}
    return row | {"sha256": hashlib.sha256(content).hexdigest()}


class Journal:
    """Finished items of a preparation that may have been interrupted.

    Opening it makes `folder` ready: entries of a preparation with the same `header` are kept, anything
    prepared with another one is removed; files that no preparation wrote are a DataError.
    """

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        """Open or begin the journal of `folder`; `header` is all that decides the result, raw files apart."""
        self.folder, self.path = folder, folder / JOURNAL
        self.done: dict[str, dict[str, Any]] = {}
        lines: list[dict[str, Any]] = []
        with suppress(ValueError, FileNotFoundError):  # the last line may have been cut by a kill
            lines.extend(map(json.loads, self.path.read_bytes().splitlines()))
        if lines and lines[0] == header:
            self.done = {entry["item"]: entry for entry in lines[1:]}
            write_if_changed(self.path, b"".join(_line(line) for line in lines))  # drops a line cut by a kill
            return
        if not self.path.exists() and not (folder / "preparation.json").exists():
            for name in sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())[:1]:
                raise DataError(folder, "an empty or prepared folder", repr(name), "give another")
        for name in ("manifest.csv", "preparation.json"):
            (folder / name).unlink(missing_ok=True)
        for name in LABELS.values():
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, _line(header))

    def finished(self, item: str, raw: str) -> dict[str, Any] | None:
        """The entry of an item made from the raw bytes `raw`, if its files are still whole."""
        entry = self.done.get(item, {"raw": None, "rows": []})
        for row in entry["rows"]:
            files = [self.folder / row[column] for column in ("path", *MASKS) if row[column]]
            if not (all(path.exists() for path in files) and sha256(files[0]) == row["sha256"]):
                return None
        return entry if entry["raw"] == raw else None

    def add(self, entry: dict[str, Any]) -> None:
        """Append one finished item."""
        with self.path.open("ab") as file:
            file.write(_line(entry))


def _line(entry: dict[str, Any]) -> bytes:
    return (json.dumps(entry) + "\n").encode()


def finish(folder: Path, rows: Iterable[dict[str, Any]], preparation: dict[str, Any]) -> None:
    """Write preparation.json and the manifest, and remove files of earlier runs that are in neither."""
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values("path", ignore_index=True)
    known = set(table[["path", *MASKS]].to_numpy().flat)
    for path in [path for sub in (*LABELS.values(), *MASKS.values()) for path in (folder / sub).glob("*")]:
        if path.relative_to(folder).as_posix() not in known:
            path.unlink()
    for column, sub in MASKS.items():
        if (folder / sub).is_dir() and not any(table[column]):
            (folder / sub).rmdir()  # anomalib's Folder would look for masks there
    counts = table.groupby(["split", "label", "class"]).size()
    preparation["counts"] = [
        {"split": s, "label": k, "class": c, "images": int(n)} for (s, k, c), n in counts.items()
    ]
    write_if_changed(folder / "preparation.json", (json.dumps(preparation, indent=2) + "\n").encode())
    write_if_changed(folder / "manifest.csv", table.to_csv(index=False, lineterminator="\n").encode())


def read_manifest(folder: Path, verify: bool = False) -> pd.DataFrame:
    """The manifest of a prepared dataset: one row per image, columns `COLUMNS`, sorted by path.

    If it is of another format, or a file that it names is missing, it is a DataError. With `verify` every
    file is read too, and checksum, size and mask values are compared (takes seconds).
    """
    path = Path(folder) / "manifest.csv"
    if not path.exists():
        raise DataError(path, "the manifest of a prepared dataset", "no file", "run the preparation")
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys(COLUMNS[:8], str))
    except ValueError as error:
        raise DataError(path, "a CSV table", f"{error}", "run the preparation again") from None
    again = "run the preparation again"
    if list(table.columns) != COLUMNS:
        raise DataError(path, f"columns {COLUMNS}", f"{list(table.columns)}", again)
    if table.empty:
        raise DataError(path, "at least one image", "none", again)
    for column, allowed in (("split", ["train", "test"]), ("label", list(LABELS))):
        for bad in table.loc[~table[column].isin(allowed), column].head(1):
            raise DataError(path, f"{column} {' or '.join(allowed)}", repr(bad), again)
    for name in table.loc[table["path"].duplicated(), "path"].head(1):
        raise DataError(path, "each path once", f"{name!r} twice", again)
    for name in table[["path", *MASKS]].to_numpy().flat:
        if name and not (Path(folder) / name).is_file():
            raise DataError(Path(folder) / name, "a file of the manifest", "none", "prepare again")
    if verify:
        for row in table.to_dict("records"):
            _verify(Path(folder), row)
    return table


def _verify(folder: Path, row: dict[str, Any]) -> None:
    path, size = folder / row["path"], (row["width"], row["height"])
    if sha256(path) != row["sha256"]:
        raise DataError(path, "the bytes of the manifest", "others (SHA-256 differs)", "prepare again")
    for name in filter(None, (row["path"], *map(row.get, MASKS))):
        with Image.open(folder / name) as image:
            if image.mode != "L" or image.size != size:
                expected, found = (
                    f"{mode} of {w}x{h}" for mode, (w, h) in (("L", size), (image.mode, image.size))
                )
                raise DataError(folder / name, f"mode {expected}", f"mode {found}", "prepare again")
            if name != row["path"] and not set(np.unique(np.asarray(image))) <= {0, 255}:
                raise DataError(folder / name, "mask values 0 and 255", "others", "prepare again")


def code_checksum() -> str:
    """Checksum of this package's source: what another version of the code made is made anew."""
    sources = [p for p in sorted(Path(__file__).parent.rglob("*.py")) if p.name != "__main__.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
