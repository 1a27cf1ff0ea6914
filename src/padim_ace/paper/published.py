"""The paper's numbers, and whether ours agree with them.

``book/published.csv`` holds every number of the paper's Tables 1 to 4, in the paper's percent. A published
cell is compared only with reproduced rows of the same model, backbone, covariance, aggregation, level and
metric, on the dataset that is prepared as the paper says (:data:`PREPARED`); a mean over three runs is
compared with a mean over our first three seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from data_prep.errors import DataError
from padim_ace.experiment.results import read_csv

PUBLISHED = (
    *("table", "dataset", "model", "backbone", "covariance", "aggregation"),
    *("level", "metric", "mean", "std"),
)
"""The columns of ``book/published.csv``."""
RUNS = 3  # "across three experimental runs": every caption of the paper

DETECTORS = {"padim_ace": "ace", "padim": "padim", "dfm": "dfm", "winclip": "winclip", "rx": "rx"}
PREPARED = {"mstar": "mstar", "hrsid": "hrsid", "ssdd": "ssdd_kmeans"}
"""The paper's datasets, and which of ours was prepared as it says; it removed SSDD's targets by k-means."""
IN_PAPER = {ours: name for name, ours in PREPARED.items()}
SIGNATURE = "mean"  # the paper's: the mean of anomalous embeddings

Word = Literal["reproduced", "differs", "not run"]


@dataclass(frozen=True)
class Verdict:
    """Whether a reproduced number agrees with a published one; difference and tolerance in percent points."""

    word: Word
    difference: float | None = None
    tolerance: float | None = None


def read_published(path: Path | str) -> pd.DataFrame:
    """Read the paper's numbers: one row per cell and level, means and standard deviations in percent.

    Raises:
        DataError: if the header is not :data:`PUBLISHED`, or a number is missing or outside [0, 100].
    """
    frame = read_csv(path)
    if tuple(frame.columns) != PUBLISHED:
        found = ",".join(frame.columns)
        raise DataError(path, f"the header {','.join(PUBLISHED)}", found, "restore it")
    for column in ("table", "mean", "std"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    outside = ~frame["mean"].between(0, 100) | ~frame["std"].between(0, 100)
    if outside.any():
        row = int(outside.idxmax())
        raise DataError(path, "percent from 0 to 100", f"another value in line {row + 2}", "correct it")
    return frame


def as_prepared(cell: Any) -> Any:
    """A row of :func:`read_published` with the dataset of ours that was prepared as the paper says."""
    return cell._replace(dataset=PREPARED[cell.dataset])


def reproduced(cell: Any, scores: pd.DataFrame, convention: str = "") -> dict[int, float]:
    """The reproduced values of a published cell, in percent, by seed.

    The aggregation of an isotropic covariance is not looked at: ACE does not depend on it.

    Args:
        cell: a row of :func:`read_published`, or anything with its attributes (dataset, model, backbone,
            covariance, level, metric); ``dataset`` is one of ours (:func:`as_prepared`).
        scores: a table of :func:`padim_ace.experiment.results.read_scores`.
        convention: for PaDiM-ACE, which reading of the paper: one of
            :data:`padim_ace.paper.detectors.CONVENTIONS`. Empty for other models.
    """
    wanted = {
        "dataset": cell.dataset,
        "backbone": cell.backbone,
        "detector": DETECTORS[cell.model],
        "background": "patch" if cell.covariance else "",
        "covariance": cell.covariance,
        "signature": SIGNATURE if cell.model == "padim_ace" else "",
        "convention": convention,
        "level": cell.level,
        "metric": cell.metric,
    }
    rows = scores
    for column, word in wanted.items():
        rows = rows[rows[column] == word]
    return {int(seed): 100 * float(value) for seed, value in zip(rows["seed"], rows["value"], strict=True)}


def first_runs(values: dict[int, float]) -> list[float]:
    """The values of the first :data:`RUNS` seeds: as many runs as the paper's means are over."""
    return [values[seed] for seed in sorted(values)[:RUNS]]


def tolerance(paper_std: float, ours: Sequence[float]) -> float:
    """Two standard errors of the difference of the two means, in percent points.

    ``2 sqrt(s_paper²/3 + s_ours²/n)``, with the standard deviations of single runs as each side gives them
    (ours with n - 1). That much the seeds alone explain; a difference beyond it wants another explanation.
    """
    variance = paper_std**2 / RUNS
    if len(ours) > 1:
        variance += statistics.variance(ours) / len(ours)
    return 2 * math.sqrt(variance)


def verdict(paper_mean: float, paper_std: float, ours: Sequence[float]) -> Verdict:
    """Compare our runs with a published mean ± std, in percent: agreeing within :func:`tolerance`, or not."""
    if not ours:
        return Verdict("not run")
    difference = statistics.fmean(ours) - paper_mean
    allowed = tolerance(paper_std, ours)
    return Verdict("reproduced" if abs(difference) <= allowed else "differs", difference, allowed)


HUB_BACKBONES = {
    "convnextv2_tiny": "ConvNeXt V2 weights",
    "swinv2_tiny_window8_256": "Swin V2 weights",
    "mobilevit_xs": "MobileViT weights",
    "resnet50": "the ResNet-50 weights that anomalib's DFM loads",
    "vit_b_16_plus_240": "the CLIP weights that anomalib's WinCLIP loads",
}


Reasons = Mapping[tuple[str, str], str]
"""Why something was not run and the command that would run it, by dataset and backbone."""


def read_not_run(path: Path | str) -> Reasons:
    """Read ``not_run.csv`` of a results folder: what a run could not do, in its words; no file, nothing."""
    if not Path(path).is_file():
        return {}
    rows = read_csv(path).itertuples(index=False)
    return {(row.dataset, row.backbone): f"{row.reason}; run it by `{row.command}`" for row in rows}


def why_not_run(cell: Any, not_run: Reasons) -> str:
    """Why a published cell has no reproduced number, and what would make one."""
    if said := not_run.get((PREPARED.get(cell.dataset, cell.dataset), cell.backbone)):
        return said
    if cell.backbone in HUB_BACKBONES:
        return (
            f"{HUB_BACKBONES[cell.backbone]} come from a model hub, out of reach of the machine of this run; "
            f"with network: add `{cell.backbone}` to `backbones` in `config/paper.yaml`, "
            "then `make book PROFILE=paper`"
        )
    return "not in the committed results; with the data: `make book PROFILE=paper PADIM_ACE_DATA=<folder>`"


HRSID_IMAGES = 5604
"""Images of the whole release."""


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
        found = images.get("hrsid")
        part = f"{found} of HRSID's {HRSID_IMAGES:,} images are at hand here; " if found else ""
        return (part if found != HRSID_IMAGES else "") + reason
    return f"target removal leaves traces that depend on its details (D9); {reason}"
