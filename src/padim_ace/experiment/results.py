"""The results of a run: a tidy table with one row per number, and the tables beside it; without torch.

The table is ``results/<profile>/scores.csv``. Its header is :data:`SCORES`; a value is a fraction, and a
column that does not apply to a row is empty. Equal results give equal bytes: rows are sorted and floats are
written in the shortest form that reads back the same.
"""

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.errors import DataError
from data_prep.files import write_atomic
from padim_ace.detect.registry import BACKGROUNDS, COVARIANCES
from padim_ace.experiment.protocols import ARMS, PROTOCOLS

NAMES = ("detector", "background", "covariance", "signature", "convention", "channels", "smoothing")
"""The columns that name a detector."""
KEY = ("dataset", "backbone", "protocol", *NAMES, "seed", "level", "metric")
SCORES = (*KEY, "value")  #: The columns of ``scores.csv``
JOINED = [f"{name}.csv" for name in ("not_run", "supervision", "validation", "clamp", "classes", "fill")]
"""The tables beside ``scores.csv``."""
VOCABULARY: dict[str, Collection[str]] = {
    "protocol": {*PROTOCOLS, *ARMS},
    "background": {"", *BACKGROUNDS},
    "covariance": {"", *COVARIANCES},
    "level": {"image", "pixel", "vehicle"},
    "metric": {"auroc", "ap", "aupro", "f1"},
}


def write_scores(frame: pd.DataFrame, path: Path | str) -> None:
    """Write a scores table, sorted by its key and checked first; the file appears whole or not at all.

    Raises:
        DataError: if a column is missing or unknown, a word is not in :data:`VOCABULARY`, a value is not a
            fraction, or two rows have the same key.
    """
    write_csv(_checked(frame, str(path)), path)


def read_scores(path: Path | str) -> pd.DataFrame:
    """Read a scores table: words as strings (empty where a column does not apply), seed whole, value float.

    Of a folder, ``scores.csv`` with the rows of the slow rivals, where they were run (``rivals.csv``).

    Raises:
        DataError: if the file does not exist, its header is not :data:`SCORES`, or a row breaks the format.
    """
    if Path(path).is_dir():
        rivals = Path(path) / "rivals.csv"
        return merge_scores([Path(path) / "scores.csv", *([rivals] if rivals.is_file() else [])])
    return _checked(read_csv(path), str(path))


def merge_scores(paths: Iterable[Path | str]) -> pd.DataFrame:
    """Join scores tables into one, sorted; a DataError if a key is in two of them."""
    parts = [read_scores(path) for path in paths]
    if not parts:
        return pd.DataFrame(columns=list(SCORES))
    return _checked(pd.concat(parts, ignore_index=True), "the merged scores")


def collect(parts: Iterable[Path | str], out: Path | str) -> None:
    """Join the folders of several runs, each with scores.csv and provenance.json, into one.

    ``provenance.json`` and ``seeds.json`` (what each seed drew) keep what each run said, under its folder's
    name. The other tables of the runs, :data:`JOINED`, are joined too where there are any.

    Raises:
        DataError: if a part is missing or broken, or two parts have a row with the same key.
    """
    folders, out = sorted(Path(part) for part in parts), Path(out)
    scores = merge_scores(folder / "scores.csv" for folder in folders)
    runs = {folder.name: read_json(folder / "provenance.json") for folder in folders}
    write_scores(scores, out / "scores.csv")
    for name in JOINED:
        tables = [read_csv(folder / name) for folder in folders if (folder / name).is_file()]
        if tables:
            write_csv(pd.concat(tables, ignore_index=True), out / name)
    drawn = {f.name: read_json(f / "seeds.json") for f in folders if (f / "seeds.json").is_file()}
    if drawn:
        write_json(drawn, out / "seeds.json")
    write_json({"runs": runs}, out / "provenance.json")


def read_csv(path: Path | str) -> pd.DataFrame:
    """Read a table as it is written: every value a string, none missing; a DataError if there is no file."""
    if not Path(path).is_file():
        raise DataError(path, "a table", "no file", "run `make book` to make it")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def write_csv(frame: pd.DataFrame, path: Path | str) -> None:
    """Write a table without its index; the file appears whole or not at all."""
    write_atomic(Path(path), frame.to_csv(index=False, lineterminator="\n").encode())


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a DataError if it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(path, "a JSON file", str(error), "run `make book` to make it") from error


def write_json(obj: Any, path: Path | str) -> None:
    """Write an object as indented JSON with sorted keys; the file appears whole or not at all."""
    text = json.dumps(obj, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_atomic(Path(path), f"{text}\n".encode())


def _checked(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table in canonical types and order, or an error that names the first fault."""
    advice = "correct the table"
    if set(frame.columns) != set(SCORES):
        raise DataError(where, f"the columns {','.join(SCORES)}", ",".join(map(str, frame.columns)), advice)
    frame = frame[list(SCORES)].copy()
    words = [column for column in KEY if column != "seed"]
    frame[words] = frame[words].fillna("").astype(str)
    seed, value = (pd.to_numeric(frame[column], errors="coerce") for column in ("seed", "value"))
    for column, right, expected in (
        *((name, frame[name] != "", f"a {name} in every row") for name in ("dataset", "detector")),
        *((n, frame[n].isin(known), f"{n} to be one of {sorted(known)}") for n, known in VOCABULARY.items()),
        ("seed", seed == seed.round(), "a whole number as seed"),
        ("value", value.between(0, 1), "a fraction in [0, 1] as value"),
    ):
        if not right.all():
            raise DataError(where, expected, repr(frame.loc[~right, column].iloc[0]), advice)
    frame = frame.assign(seed=seed.astype(int), value=value.astype(float))
    twice = frame.duplicated(list(KEY))
    if twice.any():
        key = ",".join(map(str, frame.loc[twice.idxmax(), list(KEY)]))
        raise DataError(where, "one row per key", f"{key} twice", advice)
    return frame.sort_values(list(KEY), ignore_index=True)
