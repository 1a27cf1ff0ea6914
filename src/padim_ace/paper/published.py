"""The paper's numbers, and whether ours agree with them.

``book/published.csv`` holds every number of the paper's Tables 1 to 4, in the paper's percent. A mean over
its three runs is compared with a mean over all of our seeds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from data_prep.errors import DataError
from padim_ace.detect.registry import BACKBONES
from padim_ace.experiment.baselines import BASELINES
from padim_ace.experiment.intervals import half_width
from padim_ace.experiment.results import read_csv

PUBLISHED = (
    *("table", "dataset", "model", "backbone", "covariance", "aggregation"),
    *("level", "metric", "mean", "std"),
)
"""The columns of ``book/published.csv``."""
RUNS = 3  # "across three experimental runs": every caption of the paper

MODELS = {"padim_ace": "PaDiM-ACE", "padim": "PaDiM"}
MODELS |= {name: BASELINES[name].title for name in ("dfm", "winclip")}
"""The paper's models, and the title of each."""
BACKBONE = "resnet18"  #: The backbone of PaDiM and PaDiM-ACE in its Tables 1, 3 and 4
READING_TITLES = {"published": "published code", "equation": "equation (1)", "centred": "centred"}
"""How the paper's text can be read, and the title of each reading."""
AGGREGATIONS = {
    "mean_diagonal": "Mean of diagonal",
    "mean_full": "Mean of full",
    "determinant": "Determinant",
    "trace": "Trace",
}
"""The paper's ways to make one variance of a covariance; ACE depends on none of them."""
PREPARED = {"mstar": "mstar", "hrsid": "hrsid", "ssdd": "ssdd_kmeans"}
"""The paper's datasets, and which of ours was prepared as it says; it removed SSDD's targets by k-means."""
STAND_INS = {"resnet50": "resnet50_keras"}  #: For weights that are out of reach
IN_PAPER = {ours: name for name, ours in PREPARED.items()}
HRSID_IMAGES = 5604  #: Images of HRSID's whole release

MARGINS = {"image": 5.0, "pixel": 5.0}
"""How many points a reproduced number may be off, by level: what tables of this literature treat as a
difference between detectors. Fixed before any verdict was drawn by it."""
MOST_RUNS = 1000  # no one makes more
Word = Literal["reproduced", "inconclusive", "differs", "not run"]
Reasons = Mapping[tuple[str, str], str]
"""Why something was not run and the command that would run it, by dataset and backbone."""


@dataclass(frozen=True)
class Verdict:
    """Whether a reproduced number agrees with a published one; numbers are percent points."""

    word: Word
    difference: float = math.nan
    half: float = math.nan  #: Half the width of the 90 % interval of the difference
    would_decide: str = ""  #: What would have turned an inconclusive comparison into another


def read_published(path: Path | str) -> pd.DataFrame:
    """Read the paper's numbers: one row per cell and level, means and standard deviations in percent.

    Raises:
        DataError: if the header is not :data:`PUBLISHED`, or a number is missing or outside [0, 100].
    """
    frame = read_csv(path)
    if tuple(frame.columns) != PUBLISHED:
        header = ",".join(frame.columns)
        raise DataError(path, f"the header {','.join(PUBLISHED)}", header, "restore it")
    for column in ("table", "mean", "std"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    outside = ~frame["mean"].between(0, 100) | ~frame["std"].between(0, 100)
    if outside.any():
        row = int(outside.idxmax())
        raise DataError(path, "percent from 0 to 100", f"another value in line {row + 2}", "correct it")
    return frame


def verdict(paper_mean: float, paper_std: float, ours: pd.Series, level: str) -> Verdict:
    """Compare our runs with a published mean ± std of three, in percent, of the level ``image`` or ``pixel``.

    The number is *reproduced* if the 90 % interval of the difference lies within ± :data:`MARGINS` (two
    one-sided tests at 5 %), else it *differs* if the interval excludes zero, else the comparison is
    *inconclusive*, as it is for one run of ours alone. The paper's runs are not known: its spread enters as
    that of three random splits.
    """
    if ours.empty:
        return Verdict("not run")
    margin, difference = MARGINS[level], float(ours.mean()) - paper_mean
    paper, here = (paper_std, RUNS), (float(ours.std()), len(ours))
    half = half_width(0.9, paper, here)
    word = _word(difference, half, margin)
    would = _would_decide(difference, margin, paper, here) if word == "inconclusive" else ""
    return Verdict(word, difference, half, would)


def _word(difference: float, half: float, margin: float) -> Word:
    if abs(difference) + half <= margin:
        return "reproduced"
    return "differs" if abs(difference) > half else "inconclusive"


def _would_decide(difference: float, margin: float, paper: tuple[float, int], here: tuple[float, int]) -> str:
    """How many runs, of ours or else of the paper's, would decide at this difference and these spreads."""
    if math.isnan(half_width(0.9, paper, here)):
        return "more than one run on each side"
    (theirs, three), (ours, ten) = paper, here

    def decide(*sides: tuple[float, int]) -> bool:
        return _word(difference, half_width(0.9, *sides), margin) != "inconclusive"

    for seeds in range(ten + 1, MOST_RUNS):
        if decide(paper, (ours, seeds)):
            return f"{seeds} seeds"
    least = min(half_width(0.9, paper, (ours, seeds)) for seeds in range(ten + 1, MOST_RUNS))
    left = f"±{least:.1f} stays"  # however many seeds
    for runs in range(three + 1, MOST_RUNS):
        if decide((theirs, runs), here):
            return f"{runs} runs of the paper's ({left})"
    decided = decide((theirs, MOST_RUNS), (ours, MOST_RUNS))
    return f"{'more runs on both sides' if decided else 'only more images'} ({left})"


def backbone_at_hand(backbone: str, scores: pd.DataFrame) -> tuple[str, str]:
    """The backbone whose numbers stand for a published cell's, and what is to be said of its weights."""
    other = STAND_INS.get(backbone, backbone)
    if other == backbone or not (scores["backbone"] == other).any() or (scores["backbone"] == backbone).any():
        return backbone, ""
    return other, f"timm's weights were out of reach: those that Keras ships stand in ({other})"


def read_not_run(path: Path | str) -> Reasons:
    """Read ``not_run.csv`` of a results folder: what a run could not do, in its words; no file, nothing."""
    if not Path(path).is_file():
        return {}
    rows = read_csv(path).itertuples(index=False)
    return {(row.dataset, row.backbone): f"{row.reason}; run it by `{row.command}`" for row in rows}


def why_not_run(cell: Any, not_run: Reasons) -> str:
    """Why a published cell has no reproduced number, and what would make one."""
    if said := not_run.get((PREPARED[cell.dataset], cell.backbone)):
        return said
    hub = "weights come from a model hub, out of reach of the machine of this run; with network:"
    if cell.model in BASELINES:
        target = "rivals" if BASELINES[cell.model].rival else "book"
        return f"{BASELINES[cell.model].backbone_title} {hub} `make {target} PROFILE=paper`"
    if cell.backbone != BACKBONE:
        return (
            f"{BACKBONES[cell.backbone].title} {hub} add `{cell.backbone}` to `backbones` in "
            "`config/paper.yaml`, then `make book PROFILE=paper`"
        )
    return "not in the committed results; with the data: `make book PROFILE=paper PADIM_ACE_DATA=<folder>`"


def why_different(cell: Any, images: Mapping[str, int]) -> str:
    """What is known to set a reproduced number apart from the paper's (measured under Deviations).

    Args:
        cell: a row of :func:`read_published`.
        images: how many images of each release were prepared, as far as it is known.
    """
    reasons = {
        "padim_ace": "splits and feature subsets of the paper's runs are not known (D7)",
        "padim": "splits and features of the paper's runs are not known (D7); scores clamped (D10)",
    }
    reason = reasons.get(cell.model, "splits of the paper's runs are not known (D7)")
    if cell.dataset == "hrsid":
        prepared = images.get("hrsid", HRSID_IMAGES)
        part = f"{prepared} of HRSID's {HRSID_IMAGES:,} images are at hand here; "
        return reason if prepared == HRSID_IMAGES else part + reason
    return f"target removal leaves traces that depend on its details (D9); {reason}"
