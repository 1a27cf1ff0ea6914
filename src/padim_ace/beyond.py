"""Beyond the paper: which detector beats PaDiM, by how much, and with what supervision. All numbers in
percent."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats

from padim_ace.figures import COLOURS, STYLE
from padim_ace.html_tables import Cell, Head, table_html
from padim_ace.tables import DATASETS

COLUMNS = (
    ("mstar", "image"),
    ("hrsid", "image"),
    ("hrsid", "pixel"),
    ("ssdd", "image"),
    ("ssdd", "pixel"),
)
"""The columns of the paper's Table 1."""
BACKGROUNDS = {
    "": "per patch",
    "_pooled": "pooled",
    "_shared": "shared",
    "_shrunk": "shrunk",
}
SUPERVISION = {
    "": "normal images",
    **dict.fromkeys(("mean", "mined", "refined", "contrast", "subspace"), "image labels"),
    "masked": "masks",
}
STATISTICS = {"padim": "Mahalanobis", "ace": "ACE", "glrt": "Kelly's GLRT", "amf": "matched filter"}


@dataclass(frozen=True)
class Difference:
    """A detector's gain over PaDiM on the same seeds: its mean and the half-width of its 95 % interval."""

    mean: float
    half: float

    @property
    def wins(self) -> bool:
        """Whether the gain is more than its interval."""
        return self.mean > self.half


def by_seed(scores: pd.DataFrame, **where: str) -> dict[int, float]:
    """Values in percent by seed, of the rows whose columns have the given words."""
    chosen = scores
    for column, word in where.items():
        chosen = chosen[chosen[column] == word]
    return {int(seed): 100 * value for seed, value in zip(chosen["seed"], chosen["value"], strict=True)}


def interval(values: Mapping[int, float]) -> tuple[float, float]:
    """Mean over seeds, and the half-width of its 95 % t-interval (NaN for one seed)."""
    every = list(values.values())
    if len(every) < 2:
        return statistics.fmean(every), float("nan")
    error = statistics.stdev(every) / len(every) ** 0.5
    return statistics.fmean(every), float(stats.t.ppf(0.975, len(every) - 1)) * error


def gain(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference:
    """The paired difference over the seeds that both have: a seed decides splits and features of both."""
    return Difference(
        *interval({seed: ours[seed] - theirs[seed] for seed in sorted(set(ours) & set(theirs))})
    )


def detectors(scores: pd.DataFrame) -> pd.DataFrame:
    """The detectors of this chapter: Mahalanobis with each background, the other statistics with each
    signature."""
    names = ["detector", "signature"]
    chosen = scores[
        scores["detector"].str.fullmatch(f"({'|'.join(STATISTICS)})({'|'.join(BACKGROUNDS)})")
        & (scores["covariance"] == "full")
        & scores["convention"].isin(["", "centred"])
    ]
    frame = chosen[names].drop_duplicates()
    statistic = frame["detector"].str.partition("_")[0].map(list(STATISTICS).index)
    frame = frame.assign(a=statistic, b=frame["signature"].map(list(SUPERVISION).index))
    return frame.sort_values(["a", "b", "detector"])[names].reset_index(drop=True)


def comparison(scores: pd.DataFrame, metric: str, columns=COLUMNS) -> pd.DataFrame:
    """One row per detector and column: mean, half-width of the interval, gain over PaDiM with its own.

    Args:
        scores: of one backbone, with the columns of ``scores.csv``.
        metric: as in ``scores.csv``; metrics of pixels have no value in columns of images.
        columns: pairs of a dataset and a level.
    """
    rows = []
    scores = scores[(scores["metric"] == metric) & (scores["covariance"] == "full")]
    for detector, signature in detectors(scores).itertuples(index=False):
        convention = "centred" if signature else ""
        for dataset, level in columns:
            at = {"dataset": dataset, "level": level}
            ours = by_seed(scores, detector=detector, signature=signature, convention=convention, **at)
            padim = by_seed(scores, detector="padim", signature="", **at)
            if not ours or not padim:
                continue
            mean, half = interval(ours)
            difference = gain(ours, padim)
            rows.append(
                {
                    "detector": detector,
                    "signature": signature,
                    **at,
                    "metric": metric,
                    "mean": mean,
                    "half": half,
                    "gain": difference.mean,
                    "gain_half": difference.half,
                    "wins": difference.wins,
                    "seeds": len(ours),
                }
            )
    return pd.DataFrame(rows)


def comparison_html(frame: pd.DataFrame, caption: str, name: str) -> str:
    """A :func:`comparison` as a table: supervision first, then the columns; the best of each in bold."""
    columns = list(dict.fromkeys(zip(frame["dataset"], frame["level"], strict=True)))
    heads: list[Head] = [("Detector", []), ("Background", []), ("Signature", []), ("Supervision", [])]
    heads += [(f"{DATASETS.get(dataset, dataset)} {level}", []) for dataset, level in columns]
    best = frame.groupby(["dataset", "level"])["mean"].max()
    body = []
    for (detector, signature), rows in frame.groupby(["detector", "signature"], sort=False):
        statistic, _, kind = detector.partition("_")
        words = [
            STATISTICS[statistic],
            BACKGROUNDS[f"_{kind}" if kind else ""],
            signature or "–",
            SUPERVISION[signature],
        ]
        line = [Cell(word, word, kind="text") for word in words]
        for dataset, level in columns:
            found = rows[(rows["dataset"] == dataset) & (rows["level"] == level)]
            if found.empty:
                line.append(Cell("–", -1.0))
                continue
            row = found.iloc[0]
            mark = "▲" if row["wins"] else ""
            title = f"{row['gain']:+.2f} ± {row['gain_half']:.2f} over PaDiM on the same {row['seeds']} seeds"
            text = f"{row['mean']:.1f} ± {row['half']:.1f}{mark}"
            line.append(Cell(text, float(row["mean"]), bool(row["mean"] == best[dataset, level]), title))
        body.append(line)
    return table_html(heads, body, caption, frame, name)


def _in_words(detector: str, signature: str) -> str:
    statistic, _, kind = detector.partition("_")
    background = f", background {BACKGROUNDS[f'_{kind}']}" if kind else ""
    return f"{STATISTICS[statistic]} with the {signature} signature{background}"


def verdict_sentences(
    frame: pd.DataFrame, statistic: str = "ace", supervision: str = "image labels"
) -> list[str]:
    """For each column: the best detector of a statistic with this supervision, and whether it beats PaDiM by
    more than the interval."""
    said = []
    wanted = [signature for signature, word in SUPERVISION.items() if word == supervision]
    for (dataset, level), rows in frame.groupby(["dataset", "level"], sort=False):
        labels = rows[rows["detector"].str.startswith(statistic) & rows["signature"].isin(wanted)]
        if labels.empty:
            continue
        row = labels.loc[labels["mean"].idxmax()]
        padim = rows[(rows["detector"] == "padim") & (rows["signature"] == "")].iloc[0]
        judged = (
            "above PaDiM by more than its interval"
            if row["wins"]
            else ("below PaDiM" if row["gain"] < 0 else "not above PaDiM by more than its interval")
        )
        said.append(
            f"{DATASETS.get(dataset, dataset)}, {level}: {_in_words(row['detector'], row['signature'])} has "
            f"{row['mean']:.2f}, PaDiM {padim['mean']:.2f}; the difference is {row['gain']:+.2f} ± "
            f"{row['gain_half']:.2f}: {judged}."
        )
    return said


def wins_by_detector(frame: pd.DataFrame) -> pd.DataFrame:
    """In how many columns each detector is above PaDiM by more than the interval, and below it; most wins
    first.

    One row per detector: ``detector``, ``supervision``, ``above``, ``below``, ``columns``. What is best in
    each column was picked by the test images; a row of this table was not.
    """
    rows = []
    for (detector, signature), found in frame.groupby(["detector", "signature"], sort=False):
        if signature:
            rows.append(
                {
                    "detector": _in_words(detector, signature),
                    "supervision": SUPERVISION[signature],
                    "above": int(found["wins"].sum()),
                    "below": int((found["gain"] < -found["gain_half"]).sum()),
                    "columns": len(found),
                }
            )
    return pd.DataFrame(rows).sort_values(["above", "below"], ascending=[False, True], ignore_index=True)


def wins_html(wins: pd.DataFrame, caption: str, name: str) -> str:
    """A :func:`wins_by_detector` as a table."""
    heads: list[Head] = [
        ("Detector", []),
        ("Supervision", []),
        ("above PaDiM", []),
        ("below", []),
        ("of", []),
    ]
    body = [
        [Cell(row.detector, row.detector, kind="text"), Cell(row.supervision, row.supervision, kind="text")]
        + [Cell(str(n), float(n)) for n in (row.above, row.below, row.columns)]
        for row in wins.itertuples()
    ]
    return table_html(heads, body, caption, wins, name)


def areas_html(areas: pd.DataFrame, caption: str, name: str) -> str:
    """The rows of ``areas.csv`` as a table: a line per dataset and detector, a column per group of sizes."""
    groups = sorted(areas["group"].unique())
    sizes = ["smallest", *[""] * (len(groups) - 2), "largest"]
    heads: list[Head] = [("Dataset", []), ("Detector", []), ("Signature", [])]
    heads += [
        (f"{size} quarter" if size else f"quarter {g + 1}", []) for g, size in zip(groups, sizes, strict=True)
    ]
    body = []
    for (dataset, detector, signature), rows in areas.groupby(
        ["dataset", "detector", "signature"], sort=False
    ):
        words = [DATASETS.get(dataset, dataset), STATISTICS[detector], signature or "–"]
        line = [Cell(word, word, kind="text") for word in words]
        for group in groups:
            found = rows[rows["group"] == group]
            mean, half = interval(dict(zip(found["seed"], 100 * found["auroc"], strict=True)))
            share = f"targets cover {found['low'].iloc[0]:.2%} to {found['high'].iloc[0]:.2%} of the image"
            line.append(Cell(f"{mean:.1f} ± {half:.1f}", mean, False, share))
        body.append(line)
    return table_html(heads, body, caption, areas, name)


def supervision_figure(few: pd.DataFrame, scores: pd.DataFrame, columns=COLUMNS) -> Figure:
    """AUROC by the number of anomalous images that make the signature, PaDiM's as a line.

    Args:
        few: the rows of ``supervision.csv``.
        scores: the rows of ``scores.csv``: with all images, and PaDiM.
        columns: pairs of a dataset and a level.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(columns), figsize=(2.35 * len(columns), 2.9), layout="constrained", squeeze=False
        )
        for axis, (dataset, level) in zip(axes[0], columns, strict=True):
            at = {"dataset": dataset, "level": level, "metric": "auroc"}
            padim, half = interval(by_seed(scores, detector="padim", **at))
            axis.axhline(padim, color=COLOURS[1], lw=1.4, label="PaDiM")
            axis.axhspan(padim - half, padim + half, color=COLOURS[1], alpha=0.2, lw=0)
            for signature, colour, marker in (("mined", COLOURS[0], "o"), ("masked", COLOURS[2], "s")):
                part = few[(few["signature"] == signature)]
                counts = sorted(part["images"].unique())
                found = [interval(by_seed(part[part["images"] == n], **at)) for n in counts]
                every = by_seed(scores, detector="ace", signature=signature, convention="centred", **at)
                found.append(interval(every))
                mean, error = np.array(found).T
                axis.errorbar(
                    range(len(found)), mean, error, marker=marker, ms=4, lw=1.2, capsize=2, color=colour,
                    label=f"ACE, {signature}",
                )  # fmt: skip
                axis.set_xticks(range(len(found)), [*map(str, counts), "all"])
            axis.set_title(f"{DATASETS.get(dataset, dataset)}, {level}", fontsize=10)
            axis.set_xlabel("anomalous images")
        axes[0, 0].set_ylabel("AUROC, %")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def supervision_in_words(few: pd.DataFrame, scores: pd.DataFrame, columns=COLUMNS) -> list[str]:
    """With how few anomalous images the mean AUROC of ACE passes PaDiM's, for each column."""
    said = []
    for dataset, level in columns:
        at = {"dataset": dataset, "level": level, "metric": "auroc"}
        padim = by_seed(scores, detector="padim", **at)
        if not padim:
            continue
        for signature in ("mined", "masked"):
            part = few[few["signature"] == signature]
            enough = [n for n in sorted(part["images"].unique())
                      if gain(by_seed(part[part["images"] == n], **at), padim).mean > 0]  # fmt: skip
            every = by_seed(scores, detector="ace", signature=signature, convention="centred", **at)
            count = f"{enough[0]}" if enough else ("all" if gain(every, padim).mean > 0 else "no number")
            said.append(f"{DATASETS.get(dataset, dataset)}, {level}, {signature}: {count}")
    return said
