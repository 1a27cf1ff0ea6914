"""Beyond the paper: which detector beats PaDiM, by how much, and with what supervision. All numbers in
percent.

:mod:`padim_ace.report.beyond_page` draws what these functions find.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from scipy import stats

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


def _in_words(detector: str, signature: str) -> str:
    kind = detector.partition("_")[2]
    return f"{signature} signature" + (f", background {BACKGROUNDS[f'_{kind}']}" if kind else "")


def best_rows(frame: pd.DataFrame, statistic: str, supervision: str) -> pd.DataFrame:
    """The best detector of a statistic with this supervision in each column of a :func:`comparison`.

    One row per column of the comparison, with ``padim``, the mean of PaDiM, and ``named``, its signature and
    background in words. The test images picked these rows; their intervals know nothing of that.
    """
    kinds = [signature for signature, word in SUPERVISION.items() if word == supervision]
    rows = frame[frame["detector"].str.startswith(statistic) & frame["signature"].isin(kinds)]
    best = rows.loc[rows.groupby(["dataset", "level"], sort=False)["mean"].idxmax()]
    padim = frame[frame["detector"] == "padim"].set_index(["dataset", "level"])["mean"]
    return best.assign(
        padim=padim.loc[pd.MultiIndex.from_frame(best[["dataset", "level"]])].to_numpy(),
        named=[_in_words(*names) for names in best[["detector", "signature"]].itertuples(index=False)],
    )


def wins_by_detector(frame: pd.DataFrame) -> pd.DataFrame:
    """In how many columns each detector is above PaDiM by more than the interval, and below it; most wins
    first.

    One row per detector: ``detector``, ``supervision``, ``above``, ``below``, ``columns``. What is best in
    each column was picked by the test images; a row of this table was not.
    """
    rows = []
    for (detector, signature), found in frame.groupby(["detector", "signature"], sort=False):
        if signature:
            statistic = STATISTICS[detector.partition("_")[0]]
            rows.append(
                {
                    "detector": f"{statistic} with the {_in_words(detector, signature)}",
                    "supervision": SUPERVISION[signature],
                    "above": int(found["wins"].sum()),
                    "below": int((found["gain"] < -found["gain_half"]).sum()),
                    "columns": len(found),
                }
            )
    return pd.DataFrame(rows).sort_values(["above", "below"], ascending=[False, True], ignore_index=True)


def fewest(few: pd.DataFrame, scores: pd.DataFrame, columns=COLUMNS) -> pd.DataFrame:
    """With how few anomalous images the mean AUROC of ACE passes PaDiM's, for each column.

    One row per column: ``dataset``, ``level``, and for the signatures ``mined`` and ``masked`` a number of
    images, "all", or "–" where no number is enough.

    Args:
        few: the rows of ``supervision.csv``.
        scores: the rows of ``scores.csv``: with all images, and PaDiM.
        columns: pairs of a dataset and a level.
    """
    rows = []
    for dataset, level in columns:
        at = {"dataset": dataset, "level": level, "metric": "auroc"}
        padim = by_seed(scores, detector="padim", **at)
        row = {"dataset": dataset, "level": level}
        for signature in ("mined", "masked"):
            part = few[few["signature"] == signature]
            enough = [n for n in sorted(part["images"].unique())
                      if gain(by_seed(part[part["images"] == n], **at), padim).mean > 0]  # fmt: skip
            every = by_seed(scores, detector="ace", signature=signature, convention="centred", **at)
            row[signature] = str(enough[0]) if enough else ("all" if gain(every, padim).mean > 0 else "–")
        rows.append(row)
    return pd.DataFrame(rows)
