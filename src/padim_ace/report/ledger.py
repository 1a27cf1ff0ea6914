"""Every number of the paper beside ours, and the numbers that the book's prose names. All are in percent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from IPython.display import HTML

from data_prep.datasets import DATASETS
from padim_ace.detect.detector import PADIM, Detector
from padim_ace.detect.registry import COVARIANCES
from padim_ace.experiment.results import read_json
from padim_ace.paper import published as paper
from padim_ace.report.html_tables import Cell, sources_text, table
from padim_ace.report.summary import select, spread_text
from padim_ace.report.tables import WITHIN, difference_cell, judgement, row_of
from padim_ace.report.titles import backbone_title


def reproduced(cell: Any, scores: pd.DataFrame, dataset: str, convention: str = "") -> pd.Series:
    """Our values of a published cell on one of our datasets, by seed.

    The aggregation of an isotropic covariance is not looked at: ACE does not depend on it.

    Args:
        cell: a row of :func:`padim_ace.paper.published.read_published`.
        scores: a table of :func:`padim_ace.experiment.results.read_scores`.
        dataset: the name of our dataset.
        convention: which reading of the paper, for PaDiM-ACE.
    """
    ours: Detector | str = cell.model
    if cell.model == "padim_ace":
        ours = Detector(covariance=cell.covariance, convention=convention)
    row = row_of(PADIM if ours == "padim" else ours)
    backbone, _ = paper.backbone_at_hand(cell.backbone, scores)
    at = {"dataset": dataset, "backbone": backbone, "level": cell.level, "metric": cell.metric}
    return select(scores, protocol="paper", **row, **at)


def prepared_images(results: Path | str) -> dict[str, int]:
    """How many images of each release were prepared, as far as the provenance of a results folder says."""
    runs = read_json(Path(results) / "provenance.json")["runs"].values()
    counted = [run["parameters"] for run in runs if run["parameters"].get("images")]  # not by the baselines
    return {run["dataset"]: run["images"]["raw"] for run in counted if run["images"]["raw"]}


def ledger(
    published: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    not_run: paper.Reasons | None = None,
    images: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Every number of the paper with ours in each reading, a verdict and what explains it, one row each.

    The verdict is on the dataset that was prepared as the paper says, ``prepared``, and on PaDiM-ACE in the
    reading ``published``, what the paper's own code computes: ``ours``. ``ours_by_masks`` is that same
    detector on SSDD with its targets removed by the release's masks, which the paper did not do.
    """
    rows = []
    for cell in published.itertuples(index=False):
        readings = list(paper.READING_TITLES) if cell.model == "padim_ace" else [""]
        prepared = paper.PREPARED[cell.dataset]
        ours = {r: reproduced(cell, scores, prepared, r) for r in readings}
        masks = pd.Series(dtype=float)
        if prepared != cell.dataset:
            masks = reproduced(cell, scores, cell.dataset, readings[0])
        judged = paper.verdict(cell.mean, cell.std, ours[readings[0]], cell.level)
        notes = {"not run": paper.why_not_run(cell, not_run or {})}
        notes["differs"] = paper.why_different(cell, images or {})
        weights = paper.backbone_at_hand(cell.backbone, scores)[1]
        rows.append(
            {
                **cell._asdict(),
                "prepared": prepared,
                "ours": ours[readings[0]].mean(),
                "ours_std": ours[readings[0]].std(),
                "seeds": len(ours[readings[0]]),
                "ours_equation": ours.get("equation", masks.iloc[:0]).mean(),
                "ours_centred": ours.get("centred", masks.iloc[:0]).mean(),
                "ours_by_masks": masks.mean(),
                **judgement(judged),
                "note": "; ".join(filter(None, (weights, notes.get(judged.word, "")))),
            }
        )
    return pd.DataFrame(rows)


def counts(frame: pd.DataFrame) -> pd.DataFrame:
    """How many numbers of a :func:`ledger` have each verdict, a row for each table and dataset."""
    words = frame.groupby(["table", "dataset"])["verdict"].value_counts().unstack(fill_value=0)
    words = words.reindex(columns=get_args(paper.Word), fill_value=0)
    words.index = pd.Index([f"{n}, {dataset.upper()}" for n, dataset in words.index], name="Table")
    return words.rename(columns=str.capitalize).reset_index()


def draw(frame: pd.DataFrame) -> HTML:
    """Draw a :func:`ledger`; its reasons are lettered below it."""
    letters: dict[str, str] = {}
    lines = []
    for row in frame.itertuples(index=False):
        varied = {2: backbone_title(row.backbone), 3: COVARIANCES.get(row.covariance, "")}
        varied |= {4: paper.AGGREGATIONS.get(row.aggregation, "")}
        why = f" ({letters.setdefault(row.note, chr(ord('a') + len(letters)))})" if row.note else ""
        kind = f"text {row.verdict.replace(' ', '-')}"
        lines.append(
            {
                "Detector": ", ".join(filter(None, (paper.MODELS[row.model], varied.get(row.table)))),
                "Table": row.table,
                "Dataset": row.dataset.upper(),
                "AUROC": row.level,
                "Paper": Cell(spread_text(row.mean, row.std)),
                "Here": Cell(spread_text(row.ours, row.ours_std)),
                "Difference": difference_cell(row),
                "Verdict": Cell(f"{row.verdict}{why}", title=row.note, kind=kind),
                "Would decide": row.would_decide or "–",
                "Centred": row.ours_centred,
            }
        )
    counts = ", ".join(f"{(frame['verdict'] == word).sum()} {word}" for word in get_args(paper.Word))
    notes = [f"{letter}: {note}." for note, letter in letters.items()]
    caption = f"The paper's {len(frame)} numbers: {counts}."
    return table(pd.DataFrame(lines), caption, "ledger", form=".1f", notes=notes, data=frame)


def numbers(published: pd.DataFrame, scores: pd.DataFrame, results: Path | str) -> dict[str, str]:
    """The numbers that the book's prose names, by name, so that none is typed: how many of the paper's have
    which verdict, what the provenance in the folder ``results`` says of what made ours, and the licences."""
    verdicts = ledger(published, scores)["verdict"]
    named = {
        f"count_{word.replace(' ', '_')}": str((verdicts == word).sum()) for word in get_args(paper.Word)
    }
    runs = read_json(Path(results) / "provenance.json")["runs"].values()
    named |= {"count_published": str(len(published)), "margins": WITHIN, "sources": sources_text(runs)}
    named |= {f"images_{name}": str(count) for name, count in prepared_images(results).items()}
    return named | {f"licence_{name}": dataset.licence for name, dataset in DATASETS.items()}
