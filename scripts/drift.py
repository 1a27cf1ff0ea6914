"""Has a number moved? Compare the last run of a profile with the results committed for it.

    python scripts/drift.py PROFILE

Rows of runs that were not made here are SKIPped; a row that moved by more than its tolerance, is missing or
is new FAILs. Exit status 1 when anything FAILs.
"""

import io
import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.errors import DataError
from padim_ace.experiment.baselines import BASELINES
from padim_ace.experiment.results import KEY, merge_scores, read_json

ROOT = Path(__file__).resolve().parents[1]

# By level and metric: how far a number may move on another processor or with other versions, and why.
TOLERANCES = {
    ("image", "auroc"): (0.015, "one of the demo's hundred pairs of normal and anomalous changes places"),
    ("image", "ap"): (0.03, "the same pair, at the top of the ranking"),
    ("image", "f1"): (0.06, "the same pair, at the threshold: one image more or less is called anomalous"),
    ("pixel", "auroc"): (0.001, "pixels whose scores differ in the last digits change places"),
    ("pixel", "ap"): (0.003, "the same pixels, where the ranking is steep"),
    ("pixel", "f1"): (0.003, "the same pixels, at the threshold"),
    ("pixel", "aupro"): (0.003, "the same pixels, in small regions"),
}
SAME = ("versions", "platform", "device", "device_name")


def same_platform(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs' provenances let one expect the same bits: versions, processor, threads, batches."""
    parameters = [run.get("parameters", {}) for run in (one, other)]
    same = all(one.get(name) == other.get(name) for name in SAME)
    return same and all(parameters[0].get(n) == parameters[1].get(n) for n in ("threads", "batch_size"))


def compare(
    expected: pd.DataFrame, found: pd.DataFrame, runs: Collection[str], exact: Collection[str]
) -> pd.DataFrame:
    """Line up expected and found values: a status (same, within, SKIP, FAIL) and a reason per row.

    ``runs`` are those that were made here, as ``dataset-backbone``; rows of others are skipped. Of those in
    ``exact`` the same bits are expected.
    """
    both = expected.merge(found, on=list(KEY), how="outer", suffixes=("_expected", "_found"))
    both["run"] = [run_of(row.dataset, row.backbone, row.detector) for row in both.itertuples()]
    both["moved"] = both["value_found"] - both["value_expected"]
    both[["status", "reason"]] = [_judge(row, runs, exact) for row in both.itertuples()]
    return both


def run_of(dataset: str, backbone: str, detector: str) -> str:
    """The run that makes a row: that of its dataset's baselines, or of its dataset and backbone."""
    return f"{dataset}-{'baselines' if detector in BASELINES else backbone}"


def _judge(row: Any, runs: Collection[str], exact: Collection[str]) -> tuple[str, str]:
    if row.run not in runs:
        return "SKIP", "not run here: data or weights not at hand"
    if pd.isna(row.value_expected):
        return "FAIL", "not among the committed results"
    if pd.isna(row.value_found):
        return "FAIL", "missing from this run"
    if row.moved == 0:
        return "same", ""
    if row.run in exact:
        return "FAIL", "the same versions on the same processor: the same bits expected"
    allowed, why = TOLERANCES["image" if row.level == "image" else "pixel", row.metric]
    if abs(row.moved) <= allowed:
        return "within", f"within {allowed}: {why}"
    return "FAIL", f"expected within {allowed}"


def committed(path: str) -> str:
    """A file as it was last committed."""
    done = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise DataError(path, "it in the last commit", done.stderr, "commit it")
    return done.stdout


def main(profile: str) -> int:
    parts = sorted((ROOT / "build" / profile / "score").glob("*/scores.csv"))
    if not parts:
        print(f"SKIP  {profile}: nothing has been run here; `make book PROFILE={profile}`")
        return 0
    words = {name: str for name in KEY if name != "seed"}
    scores = io.StringIO(committed(f"results/{profile}/scores.csv"))
    expected = pd.read_csv(scores, dtype=words, keep_default_na=False)
    before = json.loads(committed(f"results/{profile}/provenance.json"))["runs"]
    now = {path.parent.name: read_json(path.parent / "provenance.json") for path in parts}
    exact = {name for name in now if name in before and same_platform(before[name], now[name])}
    table = compare(expected, merge_scores(parts), now, exact)
    for row in table[table["status"].isin(["within", "FAIL"])].itertuples():
        key = ",".join(str(getattr(row, name)) for name in KEY)
        print(f"{row.status:>6}  {key}: {row.value_expected:.6f} -> {row.value_found:.6f}  {row.reason}")
    counts = table["status"].value_counts()
    for run in sorted(set(table["run"])):
        words = table[table["run"] == run]["status"].value_counts()
        print(f"{run}: " + ", ".join(f"{count} {word}" for word, count in words.items()))
    print(", ".join(f"{counts.get(word, 0)} {word}" for word in ("same", "within", "SKIP", "FAIL")))
    return int("FAIL" in counts)


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except DataError as error:
        sys.exit(str(error))
