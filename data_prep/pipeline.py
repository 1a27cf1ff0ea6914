"""From a raw release to the prepared layout: `prepare`, and the registry of datasets."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import PIL
from tqdm import tqdm

from data_prep import prepared
from data_prep.datasets import folder, hrsid, mstar, ssdd
from data_prep.errors import DataError
from data_prep.prepared import Item, Record
from data_prep.simulation import simulate
from data_prep.simulation.scenes import SCENES


class Dataset(NamedTuple):
    """How a dataset is read: its parameters, the list of its items with a report, the images of an item."""

    parameters: type
    items: Callable[[Path, Any], tuple[list[Item], dict[str, Any]]]
    load: Callable[[Item, Any, int], list[Record]]
    defaults: dict[str, Any] = {}  # where they differ from those of `parameters`


DATASETS = {
    "mstar": Dataset(mstar.Parameters, mstar.items, mstar.load),
    "ssdd": Dataset(ssdd.Parameters, ssdd.items, ssdd.load),
    "hrsid": Dataset(hrsid.Parameters, hrsid.items, hrsid.load),
    "folder": Dataset(folder.Parameters, folder.items, folder.load),
} | {
    name: Dataset(
        simulate.Parameters,
        partial(simulate.items, name),
        simulate.load,
        {"looks": scene.looks, "removal": scene.removal, "scenes": scene.scenes},
    )
    for name, scene in SCENES.items()
}


def prepare(
    dataset: str, raw: Path | None, out: Path, *, seed: int = 0, processes: int = 1, **parameters: Any
) -> Path:
    """Prepare a dataset; the folder `out`, in the layout of `data_prep.prepared`.

    The same raw files, seed and parameters give the same bytes on any number of processes. Run again, it
    resumes; with other parameters or raw files it redoes what they change.

    Args:
        dataset: A name of `DATASETS`.
        raw: The raw release (docs: get_data). Simulated datasets are simulated there where it is empty;
            None: beside `out`.
        out: The prepared dataset: an empty folder, a new one, or one prepared before.
        seed: Decides the fill, and the simulation.
        processes: Worker processes.
        parameters: Fields of the dataset's `Parameters`.

    Raises:
        DataError: one line, where anything is not as it should be; what is finished stays for the next run.
    """
    if dataset not in DATASETS:
        raise DataError("dataset", f"one of {', '.join(DATASETS)}", repr(dataset), "change the parameter")
    kind, out = DATASETS[dataset], Path(out)
    known = {field.name for field in dataclasses.fields(kind.parameters)}
    for unknown in sorted(set(parameters) - known):
        raise DataError(
            "parameter", f"one of {dataset}'s ({', '.join(sorted(known))})", repr(unknown), "rename it"
        )
    settings = kind.parameters(**(kind.defaults | parameters))
    if dataset in SCENES:
        raw = Path(raw) if raw is not None else out.with_name(f"{out.name}_raw")
        simulate.simulate(dataset, raw, settings, seed)
    if raw is None:
        raise DataError("raw", f"the folder of the raw release of {dataset}", "None", "give it")
    items, report = kind.items(Path(raw), settings)
    _check_names(items)
    checksums = _checksums(items)
    header = {
        "dataset": dataset,
        "seed": seed,
        "parameters": prepared.parameters_json(settings),
        **_versions(),
    }
    journal = prepared.Journal(out, header)
    entries = {item.name: journal.finished(item.name, checksums[item.name]) for item in items}
    todo = [item for item in items if entries[item.name] is None]
    work = partial(_work, dataset, settings, seed, out)
    with tqdm(
        total=len(items), initial=len(items) - len(todo), desc=f"prepare {dataset}", unit="image"
    ) as bar:
        for entry in _run(work, todo, processes):
            entry["raw"] = checksums[entry["item"]]
            journal.add(entry)
            entries[entry["item"]] = entry
            bar.update()
    rows = [row for entry in entries.values() if entry for row in entry["rows"]]
    if not rows:
        raise DataError(raw, f"images of {dataset}", "none", "check the path")
    removed = [entry["removed"] for entry in entries.values() if entry and entry["removed"] is not None]
    if removed:
        report["target_pixels_removed"] = {
            "mean_share": round(float(np.mean(removed)), 4),
            "images_under_half": int(np.count_nonzero(np.array(removed) < 0.5)),
            "images": len(removed),
        }
    failed = sorted(name for name, entry in entries.items() if entry and entry["failed"])
    if failed:
        report["without_normal"] = failed
    listing = "".join(
        f"{checksums[item.name]} {item.source}\n" for item in sorted(items, key=lambda i: i.source)
    )
    raw_files = {"items": len(items), "sha256": hashlib.sha256(listing.encode()).hexdigest()}
    prepared.finish(out, rows, header | {"raw": raw_files, "report": report})
    return out


def _work(dataset: str, settings: Any, seed: int, out: Path, item: Item) -> dict[str, Any]:
    """One item: read, remove targets, write; its entry of the journal."""
    cv2.setNumThreads(1)  # the processes share the cores already
    records = DATASETS[dataset].load(item, settings, seed)
    rows = [prepared.write_record(out, record) for record in records]
    removed = [record.removed for record in records if record.removed is not None]
    failed = any(record.failed for record in records)
    return {"item": item.name, "rows": rows, "removed": removed[0] if removed else None, "failed": failed}


def _run(
    work: Callable[[Item], dict[str, Any]], todo: list[Item], processes: int
) -> Iterator[dict[str, Any]]:
    if processes <= 1 or len(todo) <= 1:
        yield from map(work, todo)
        return
    try:
        with ProcessPoolExecutor(processes) as pool:
            yield from pool.map(work, todo, chunksize=max(1, min(16, len(todo) // (4 * processes))))
    except DataError as error:
        raise error from None  # without the worker's traceback
    except BrokenProcessPool:
        raise DataError(
            "worker process",
            f"{processes} to finish",
            "one killed (out of memory?)",
            "run again with fewer: it resumes",
        ) from None


def _check_names(items: list[Item]) -> None:
    """Two raw images must not become one prepared file, on file systems that ignore case either."""
    seen: dict[str, Item] = {}
    for item in items:
        other = seen.setdefault(item.name.lower(), item)
        if other is not item:
            raise DataError(
                item.files[0], f"one image named {item.name}", f"also {other.source}", "rename one"
            )


def _checksums(items: list[Item]) -> dict[str, str]:
    """SHA-256 of each item's raw files and annotations, by item name."""
    result = {}
    for item in items:
        digest = hashlib.sha256(repr(item.extra).encode())
        for path in item.files:
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                raise DataError(path, "a readable file", str(error.strerror), "check it") from None
        result[item.name] = digest.hexdigest()
    return result


def _versions() -> dict[str, Any]:
    """Versions of the code and the libraries that decide the bytes."""
    return {
        "code": prepared.code_checksum(),
        "versions": {"numpy": np.__version__, "opencv": cv2.__version__, "pillow": PIL.__version__},
    }
