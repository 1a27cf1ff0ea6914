"""What each deviation of the published code does to the numbers, read from ``scores.csv``.

A deviation is switched alone in two directions: *corrected* in the published code (``published`` to
``published-D3``), and *introduced* in the detector as it is meant (``centred`` to ``centred+D3``). Effects
are differences of the same seed, so that the spread of splits and features cancels in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

COVARIANCE = {"D1": "full", "D2": "diagonal", "D3": "full", "D4": "full", "D5": "full"}
"""The covariance with which each deviation is measured; D2 is about the diagonal one."""
SETTINGS = {
    "PaDiM": {"detector": "padim", "signature": "", "convention": ""},
    "PaDiM-ACE, published code": {"detector": "ace", "signature": "mean", "convention": "published"},
    "PaDiM-ACE, equation (1)": {"detector": "ace", "signature": "mean", "convention": "equation"},
    "PaDiM-ACE, centred": {"detector": "ace", "signature": "mean", "convention": "centred"},
    "PaDiM-ACE, centred, target pixels": {"detector": "ace", "signature": "masked", "convention": "centred"},
}
"""The detectors that the chapter on the deviations follows, by what they are called there."""
EFFECTS = ("dataset", "level", "deviation", "direction", "before", "after", "effect", "std", "seeds")


@dataclass(frozen=True)
class Switch:
    """One deviation switched: from one convention to another."""

    deviation: str
    direction: str
    before: str
    after: str


SWITCHES = [
    *(Switch(d, "corrected", "published", f"published-{d}") for d in COVARIANCE),
    *(Switch(d, "introduced", "centred", f"centred+{d}") for d in COVARIANCE),
]


def by_seed(
    scores: pd.DataFrame, dataset: str, level: str, backbone: str = "resnet18", **where: str
) -> pd.Series:
    """AUROC in percent by seed, of the one detector that ``where`` names; empty if it was not run.

    ``where`` are columns of ``scores.csv``; those left out are what PaDiM-ACE with full covariance has.
    """
    plain = {"detector": "ace", "covariance": "full", "aggregation": "", "signature": "mean"}
    words = plain | {"dataset": dataset, "level": level, "backbone": backbone, "metric": "auroc"} | where
    chosen = scores
    for column, word in words.items():
        chosen = chosen[chosen[column] == word]
    return 100 * chosen.set_index("seed")["value"].sort_index()


def effects(scores: pd.DataFrame, dataset: str, backbone: str = "resnet18") -> pd.DataFrame:
    """Each deviation of D1 to D5 switched alone: AUROC before and after, in percent, and their difference.

    Columns :data:`EFFECTS`; ``effect`` and ``std`` are of the difference, over the seeds that have both.
    D6 is not among them: it changes a number that ACE does not depend on (:func:`aggregation_spread`).
    """
    rows = []
    for level in ("image", "pixel"):
        for switch in SWITCHES:
            covariance = COVARIANCE[switch.deviation]
            before, after = (
                by_seed(scores, dataset, level, backbone, covariance=covariance, convention=convention)
                for convention in (switch.before, switch.after)
            )
            both = pd.concat([before, after], axis=1, keys=["before", "after"]).dropna()
            if both.empty:
                continue
            difference = both["after"] - both["before"]
            found = (both["before"].mean(), both["after"].mean(), difference.mean(), difference.std())
            rows.append((dataset, level, switch.deviation, switch.direction, *found, len(both)))
    return pd.DataFrame(rows, columns=list(EFFECTS))


def aggregation_spread(scores: pd.DataFrame) -> pd.DataFrame:
    """How far apart the four aggregations are: by dataset, convention and level, over backbones and seeds.

    Columns: dataset, convention, level, ``compared`` (settings with all four), ``largest`` (the largest
    difference between any two of the four, in percent points).
    """
    isotropic = scores[(scores["covariance"] == "isotropic") & (scores["metric"] == "auroc")]
    keys = ["dataset", "backbone", "convention", "signature", "seed", "level"]
    grouped = isotropic.groupby(keys)["value"].agg(["min", "max", "size"]).reset_index()
    grouped = grouped[grouped["size"] == 4]
    grouped["apart"] = 100 * (grouped["max"] - grouped["min"])
    found = grouped.groupby(["dataset", "convention", "level"])["apart"].agg(compared="size", largest="max")
    return found.reset_index()


def seed_spread(scores: pd.DataFrame, dataset: str, backbone: str) -> pd.DataFrame:
    """D7: mean, standard deviation, least and greatest AUROC (percent) over the seeds, of :data:`SETTINGS`.

    Columns: setting, level, seeds, mean, std, least, greatest.
    """
    rows = []
    for level in ("image", "pixel"):
        for name, where in SETTINGS.items():
            values = by_seed(scores, dataset, level, backbone, **where)
            if len(values):
                spread = values.std() if len(values) > 1 else np.nan
                rows.append((name, level, len(values), values.mean(), spread, values.min(), values.max()))
    return pd.DataFrame(rows, columns=["setting", "level", "seeds", "mean", "std", "least", "greatest"])


def removal_effect(scores: pd.DataFrame, paper: pd.DataFrame, backbone: str) -> pd.DataFrame:
    """SSDD with its targets removed by its masks and by k-means: AUROC (percent) over the seeds of both.

    One row per setting of :data:`SETTINGS` and level: ``masks``, ``kmeans`` and their paired ``difference``
    with standard deviations, and the ``paper``'s number where the setting is one of the paper's.
    """
    in_paper = {"PaDiM": "padim", "PaDiM-ACE, published code": "padim_ace"}
    paper = paper[(paper["table"] == 1) & (paper["dataset"] == "ssdd")]
    rows = []
    for name, where in SETTINGS.items():
        for level in ("image", "pixel"):
            ways = [by_seed(scores, dataset, level, backbone, **where) for dataset in ("ssdd", "ssdd_kmeans")]
            both = pd.concat(ways, axis=1, keys=["masks", "kmeans"]).dropna()
            if both.empty:
                continue
            both["difference"] = both["kmeans"] - both["masks"]
            cell = paper[(paper["model"] == in_paper.get(name)) & (paper["level"] == level)]
            row = {"setting": name, "level": level, **both.mean(), **both.std().add_suffix("_std")}
            row |= {"paper": cell["mean"].max(), "paper_std": cell["std"].max()}  # of one cell, or NaN
            rows.append(row)
    return pd.DataFrame(rows)


def clamp_effect(clamp: pd.DataFrame) -> pd.DataFrame:
    """D10: image AUROC (percent) from raw and from clamped scores, of :data:`SETTINGS`.

    ``clamp`` are the rows of ``clamp.csv`` of one backbone, as fractions. One row per dataset and setting:
    means over the seeds of ``raw``, ``clamped``, their ``change`` and the part of images ``tied``, and the
    largest change of a seed, ``most``.
    """
    called = {tuple(where.values()): name for name, where in SETTINGS.items()}
    rows = clamp[clamp["covariance"] == "full"]
    keys = zip(rows["detector"], rows["signature"], rows["convention"], strict=True)
    rows = rows.assign(setting=[called.get(key, "") for key in keys]).query("setting != ''")
    percent = rows[["raw", "clamped", "tied"]] * 100
    percent = percent.assign(change=percent["clamped"] - percent["raw"])
    grouped = percent.groupby([rows["dataset"], rows["setting"]], sort=False)
    most = grouped["change"].agg(lambda change: change.loc[change.abs().idxmax()])
    return grouped.mean().assign(most=most).reset_index()
