"""From a raw release to the prepared layout: `prepare`."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from tqdm import tqdm

from data_prep import prepared
from data_prep.dataset import Item, Parameters, Record, Report, Run, checked
from data_prep.datasets import DATASETS
from data_prep.errors import DataError
from data_prep.files import sha256, system_error

EMPTY_TILES = "images with tiles that hold no data, left out"
Entry = dict[str, Any]  # of the journal
FIRST = 10  # names that the report gives of those that a note is about


def prepare(
    dataset: str,
    raw: Path | str | None,
    out: Path | str,
    *,
    seed: int = 0,
    processes: int = 1,
    **parameters: Any,
) -> Path:
    """Prepare a dataset; the folder `out`, in the layout of `data_prep.prepared`.

    The same raw files, seed and parameters give the same bytes on any number of processes. Run again, it
    resumes; with other parameters or raw files it redoes what they change.

    Args:
        dataset: A name of `DATASETS`.
        raw: The raw release, or the folder that holds it in a subfolder (docs: get_data); None: the folder
            that the environment variable PADIM_ACE_DATA names. Simulated datasets are simulated there; None:
            beside `out`.
        out: The prepared dataset: an empty folder, a new one, or one prepared before.
        seed: Decides the fill, and the simulation.
        processes: Worker processes.
        parameters: Fields of the dataset's `parameters`.

    Raises:
        DataError: One line, if anything is not as it should be; what is finished stays for the next run.
    """
    if dataset not in DATASETS:
        raise DataError("dataset", f"one of {', '.join(DATASETS)}", repr(dataset), "change the parameter")
    run = checked(Run, {"seed": seed, "processes": processes})
    settings = checked(DATASETS[dataset].parameters, {**DATASETS[dataset].defaults, **parameters})
    out = Path(out)
    try:
        return _prepare(dataset, DATASETS[dataset].find(raw, out), out, run, settings)
    except OSError as error:
        raise system_error(error, Path(error.filename or out), "to read or write it") from None


def _prepare(dataset: str, raw: Path, out: Path, run: Run, settings: Parameters) -> Path:
    kind = DATASETS[dataset]
    if kind.simulate:
        kind.simulate(raw, settings, run.seed)
    items, report = kind.items(raw, settings)
    report["left_out"] = dict(sorted(report.get("left_out", {}).items()))
    _check_names(items)
    decisive = {item.name: (item.extra, [sha256(path) for path in item.files]) for item in items}
    checksums = {name: hashlib.sha256(repr(what).encode()).hexdigest() for name, what in decisive.items()}
    header = {
        "dataset": dataset,
        "seed": run.seed,
        "parameters": settings.model_dump(mode="json"),
        "code": prepared.code_checksum(),
        "versions": {"numpy": np.__version__, "opencv": cv2.__version__, "pillow": PIL.__version__},
    }
    journal = prepared.Journal(out, header)
    entries = {item.name: journal.finished(item.name, checksums[item.name]) for item in items}
    todo = [item for item in items if entries[item.name] is None]
    work = partial(_work, dataset, settings, run.seed, out)
    for entry in tqdm(_run(work, todo, run.processes), f"prepare {dataset}", len(todo), unit="image"):
        entry["raw"] = checksums[entry["item"]]
        journal.add(entry)
        entries[entry["item"]] = entry
    done = [entry for entry in entries.values() if entry]
    scenes = {item.name: item.scene or item.name for item in items}
    rows = [row | {"scene": scenes[entry["item"]]} for entry in done for row in entry["rows"]]
    if not rows:
        raise DataError(raw, f"images of {dataset}", "none", "check the path")
    ordered = sorted(items, key=lambda item: item.source)
    listing = "".join(f"{checksums[item.name]} {item.source}\n" for item in ordered)
    raw_files = {"items": len(items), "sha256": hashlib.sha256(listing.encode()).hexdigest()}
    prepared.finish(out, rows, header | {"raw": raw_files, "report": report | _noted(done)})
    return out


def _noted(done: list[Entry]) -> Report:
    """What the items have to report, together: notes and the images they are about, what was removed."""
    report: Report = {}
    for note in sorted({note for entry in done for note in entry["notes"]}):
        names = sorted(entry["item"] for entry in done if note in entry["notes"])
        report.setdefault("notes", {})[note] = {"images": len(names), "first": names[:FIRST]}
    removed = np.array([entry["removed"] for entry in done if entry["removed"] is not None])
    if len(removed):
        report["target_pixels_removed"] = {
            "mean_share": round(float(removed.mean()), 4),
            "images_under_half": int((removed < 0.5).sum()),
            "images": len(removed),
        }
    return report


def _work(dataset: str, settings: Parameters, seed: int, out: Path, item: Item) -> Entry:
    """One item: read, remove targets, cut, write; its entry of the journal."""
    cv2.setNumThreads(1)  # the processes share the cores already
    try:
        records = DATASETS[dataset].load(item, settings, seed)
        notes = {note for record in records for note in record.notes}
        rows = []
        for part in cut(records, settings.tile_size, settings.overlap) if settings.tile_size else records:
            if part is None:
                notes.add(EMPTY_TILES)
            else:
                rows.append(prepared.write_record(out, part))
    except DataError as error:
        raise error.at(item.files[0]) if error.args[0] in ("", "image") else error from None
    except MemoryError:
        advice = "set tile_size, or use fewer processes"
        raise DataError(item.files[0], "memory for the image", "too little", advice) from None
    removed = next((record.removed for record in records if record.removed is not None), None)
    return {"item": item.name, "rows": rows, "removed": removed, "notes": sorted(notes)}


def tile_starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where the tiles of a side begin: `overlap` px of each lie in the next, the last ends at the edge."""
    starts = list(range(0, side - tile + 1, tile - overlap))
    return starts if starts[-1] + tile == side else [*starts, side - tile]


def cut(records: list[Record], size: int, overlap: int) -> Iterator[Record | None]:
    """The tiles of an image and of its copy without targets; None for a tile that holds no data.

    A tile with part of a target is anomalous, and has its normal copy where the image has; others are normal.

    Raises:
        DataError: If the image is smaller than a tile, or may show targets that no mask tells of.
    """
    whole = records[0]
    height, width = whole.image.shape
    if min(height, width) < size:
        advice = "set tile_size lower"
        raise DataError("image", f"an image of at least the tile size {size}", f"{width}x{height}", advice)
    if whole.label == "anomalous" and whole.mask is None:
        advice = "add masks, set removal to kmeans, or tile_size to none"
        raise DataError("image", "a mask, which says what tiles show targets", "none", advice)
    for top in tile_starts(height, size, overlap):
        for left in tile_starts(width, size, overlap):
            tile = np.s_[top : top + size, left : left + size]
            if whole.valid is not None and not whole.valid[tile].any():
                yield None
                continue
            name, source = f"{whole.name}_r{top}_c{left}", f"{whole.source}#r{top}c{left}"
            parts = [replace(r, name=name, source=source, image=r.image[tile].copy()) for r in records]
            mask, vehicle = (None if m is None else m[tile].copy() for m in (whole.mask, whole.vehicle))
            if mask is not None and mask.any():
                yield from (replace(parts[0], mask=mask, vehicle=vehicle), *parts[1:])
            else:
                yield replace(parts[0], label="normal", category="background", mask=None, vehicle=None)


def _run(work: Callable[[Item], Entry], todo: list[Item], processes: int) -> Iterator[Entry]:
    if processes <= 1 or len(todo) <= 1:
        yield from map(work, todo)
        return
    try:
        with ProcessPoolExecutor(processes) as pool:
            yield from pool.map(work, todo, chunksize=max(1, min(16, len(todo) // (4 * processes))))
    except DataError as error:
        raise error from None  # without the worker's traceback
    except BrokenProcessPool:
        found, advice = "one killed (out of memory?)", "run again with fewer: it resumes"
        raise DataError("worker process", f"{processes} to finish", found, advice) from None


def _check_names(items: list[Item]) -> None:
    """Two raw images must not become one prepared file, on file systems that ignore case either."""
    seen: dict[str, Item] = {}
    for item in items:
        prepared.check_name(item.name, item.source)
        if (other := seen.setdefault(item.name.lower(), item)) is not item:
            found = f"also {other.source}"
            raise DataError(item.files[0], f"one image named {item.name}", found, "rename or remove one")
