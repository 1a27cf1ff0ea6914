"""The results of a run: a tidy table with one row per number, and the provenance beside it.

The table is ``results/<profile>/scores.csv``. Its header is :data:`COLUMNS`; a value is a fraction, and a
column that does not apply to a row is empty. Equal results give equal bytes: rows are sorted and floats are
written in the shortest form that reads back the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

COLUMNS = (
    "dataset",
    "backbone",
    "detector",
    "covariance",
    "aggregation",
    "signature",
    "convention",
    "seed",
    "level",
    "metric",
    "value",
)
KEY = COLUMNS[:-1]

JOINED = ("not_run.csv", "supervision.csv", "selection.csv")
"""What could not be run and why; signatures of few images; how many patches to mine."""

VOCABULARY: dict[str, frozenset[str]] = {
    "covariance": frozenset({"", "full", "diagonal", "isotropic"}),
    "aggregation": frozenset({"", "mean_diagonal", "mean_full", "determinant", "trace"}),
    "level": frozenset({"image", "pixel"}),
    "metric": frozenset({"auroc", "ap", "aupro", "f1"}),
}

PACKAGES = ("padim-ace", "torch", "torchvision", "timm", "anomalib", "numpy", "scikit-learn", "pandas")


class ResultsError(ValueError):
    """A scores table that breaks its format. The message names the file, the row and what was expected."""


def write_scores(frame: pd.DataFrame, path: Path | str) -> None:
    """Write a scores table, sorted by its key and checked first; the file appears whole or not at all.

    Parameters
    ----------
    frame
        One row per number, with the columns :data:`COLUMNS` in any order.
    path
        Where to write; its folder is made if missing.

    Raises
    ------
    ResultsError
        If a column is missing or unknown, a word is not in :data:`VOCABULARY`, a value is not a fraction,
        or two rows have the same key.
    """
    frame = _checked(frame, str(path))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in frame.itertuples(index=False):
        *words, value = row
        writer.writerow([*words, repr(float(value))])
    write_text(text.getvalue(), path)


def read_scores(path: Path | str) -> pd.DataFrame:
    """Read a scores table: words as strings (empty where a column does not apply), seed whole, value float.

    Raises
    ------
    ResultsError
        If the file does not exist, its header is not :data:`COLUMNS`, or a row breaks the format.
    """
    path = Path(path)
    if not path.is_file():
        raise ResultsError(f"{path}: expected a scores table, found no file; run `make book` to make it")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != COLUMNS:
        raise ResultsError(
            f"{path}: expected the header {','.join(COLUMNS)}, found {','.join(frame.columns)}; "
            "write the table with padim_ace.experiment.results.write_scores"
        )
    return _checked(frame, str(path))


def merge_scores(paths: Iterable[Path | str]) -> pd.DataFrame:
    """Join scores tables into one, sorted; raises :class:`ResultsError` if a key is in two of them."""
    parts = [read_scores(path) for path in paths]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return _checked(pd.concat(parts, ignore_index=True), "the merged scores")


def provenance(
    *, parameters: Mapping[str, Any], inputs: Mapping[str, Path | str], device: str, seconds: float
) -> dict[str, Any]:
    """Say where numbers came from, in words that mean the same on another machine.

    Parameters
    ----------
    parameters
        What the run was asked for (seeds, image size, …); paths become their last part.
    inputs
        Files read, by role (``{"manifest": …, "weights": …}``); recorded by name, size and SHA-256.
    device
        The torch device the numbers were computed on (``"cpu"``, ``"cuda"``).
    seconds
        Wall time of the run, in seconds.

    Raises
    ------
    ResultsError
        If an input is not a file.
    """
    return {
        "parameters": {name: _portable(value) for name, value in sorted(parameters.items())},
        "inputs": {role: _fingerprint(role, Path(path)) for role, path in sorted(inputs.items())},
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "device_name": _device_name(device),
        "seconds": round(float(seconds), 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def collect(parts: Iterable[Path | str], out: Path | str) -> None:
    """Join the folders of several runs, each with scores.csv and provenance.json, into one.

    ``provenance.json`` and ``seeds.json`` (what each seed drew) keep what each run said, under its folder's
    name. The other tables of the runs, :data:`JOINED`, are joined too where there are any.

    Raises
    ------
    ResultsError
        If a part is missing or broken, or two parts have a row with the same key.
    """
    folders = sorted(Path(part) for part in parts)
    scores = merge_scores(folder / "scores.csv" for folder in folders)
    runs = {folder.name: read_json(folder / "provenance.json") for folder in folders}
    write_scores(scores, Path(out) / "scores.csv")
    for name in JOINED:
        paths = [folder / name for folder in folders if (folder / name).is_file()]
        if paths:
            parts = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
            rows = pd.concat(parts, ignore_index=True)
            text = rows.sort_values(list(rows)).to_csv(index=False, lineterminator="\n")
            write_text(text, Path(out) / name)
    drawn = {f.name: read_json(f / "seeds.json") for f in folders if (f / "seeds.json").is_file()}
    if drawn:
        write_json(drawn, Path(out) / "seeds.json")
    write_json({"runs": runs}, Path(out) / "provenance.json")


def project_path(path: Path | str) -> Path:
    """Where a notebook's path parameter points: a relative path is taken from the project's folder.

    So a notebook runs with its defaults from any folder. Outside a checkout (the package installed without
    its source) it is taken from the current folder.
    """
    root = Path(__file__).resolve().parents[3]
    return Path(path) if not (root / "pyproject.toml").is_file() else root / path


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path | str) -> Any:
    """Read a JSON file; raises :class:`ResultsError` naming the file if it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ResultsError(
            f"{path}: expected a JSON file, found {error}; run `make book` to make it"
        ) from error


def write_json(obj: Any, path: Path | str) -> None:
    """Write an object as indented JSON with sorted keys; the file appears whole or not at all."""
    write_text(json.dumps(obj, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_text(text: str, path: Path | str) -> None:
    """Write a text file under a temporary name in its folder, then rename: never half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(name, 0o644)  # mkstemp makes it private
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _checked(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table in canonical types and order, or a ResultsError that names the first fault."""
    if set(frame.columns) != set(COLUMNS):
        missing = [name for name in COLUMNS if name not in frame.columns]
        unknown = [str(name) for name in frame.columns if name not in COLUMNS]
        raise ResultsError(
            f"{where}: expected the columns {','.join(COLUMNS)}, "
            f"found {missing} missing and {unknown} unknown"
        )
    frame = frame.loc[:, list(COLUMNS)].copy()
    for column in KEY:
        if column != "seed":
            frame[column] = frame[column].fillna("").astype(str)
    for column in ("dataset", "detector"):
        if (frame[column] == "").any():
            raise ResultsError(f"{where}: expected a {column} in every row, found an empty one")
    for column, words in VOCABULARY.items():
        for found in frame[column].unique():
            if found not in words:
                raise ResultsError(
                    f"{where}: expected {column} to be one of {sorted(words)}, found {found!r}"
                )
    frame["seed"] = _numbers(frame["seed"], "seed", where).astype(int)
    frame["value"] = _numbers(frame["value"], "value", where).astype(float)
    for value in frame["value"]:
        if not math.isfinite(value) or not 0.0 <= value <= 1.0:
            raise ResultsError(f"{where}: expected values as fractions in [0, 1], found {value}")
    twice = frame.duplicated(list(KEY))
    if twice.any():
        key = ",".join(str(word) for word in frame.loc[twice.idxmax(), list(KEY)])
        raise ResultsError(f"{where}: expected one row per key, found {key} twice")
    return frame.sort_values(list(KEY), ignore_index=True)


def _numbers(column: pd.Series, name: str, where: str) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any():
        found = column[numbers.isna()].iloc[0]
        raise ResultsError(f"{where}: expected a number as {name}, found {found!r}")
    if name == "seed" and (numbers != numbers.round()).any():
        raise ResultsError(
            f"{where}: expected whole numbers as seed, found {column[numbers != numbers.round()].iloc[0]!r}"
        )
    return numbers


def _portable(value: Any) -> Any:
    """A parameter without the machine it ran on: a path is only its last part."""
    if isinstance(value, Path) or (isinstance(value, str) and os.sep in value):
        return Path(value).name
    if isinstance(value, Mapping):
        return {str(name): _portable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(part) for part in value]
    return value


def _fingerprint(role: str, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ResultsError(f"{path}: expected the {role} file, found none")
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(
        r"^model name\s*: (.+)$", cpuinfo.read_text() if cpuinfo.is_file() else "", re.MULTILINE
    )
    return models[0] if models else platform.processor() or platform.machine()
