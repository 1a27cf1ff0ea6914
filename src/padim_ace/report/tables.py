"""The paper's tables with our numbers beside them: from tidy scores to what stands in a row.

:func:`compare` lines up published and reproduced numbers, one row per setting and level, :func:`ledger` all
of the paper's numbers; :mod:`padim_ace.report.html_tables` draws them. All numbers here are in percent.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pandas as pd
from scipy import stats

from padim_ace.paper import published as paper

BACKBONES = {
    "resnet18": "ResNet-18",
    "tf_efficientnet_lite0": "EfficientNet-Lite0",
    "convnextv2_tiny": "ConvNeXt V2",
    "swinv2_tiny_window8_256": "Swin V2",
    "mobilevit_xs": "MobileViT",
    "resnet50": "ResNet-50",
    "vit_b_16_plus_240": "CLIP ViT-B/16+",
}
DATASETS = {
    "mstar": "MSTAR",
    "hrsid": "HRSID",
    "ssdd": "SSDD by masks",
    "ssdd_kmeans": "SSDD by k-means",
    "demo_vehicle": "Simulated vehicles",
    "demo_sea": "Simulated open sea",
    "demo_harbour": "Simulated harbour",
}
"""SSDD stands twice; its targets are removed by the release's masks, or by k-means as the paper says."""
MODELS = {"padim_ace": "PaDiM-ACE", "padim": "PaDiM", "dfm": "DFM", "winclip": "WinCLIP"}
COVARIANCES = {"full": "Full", "diagonal": "Diagonal", "isotropic": "Isotropic"}
AGGREGATIONS = {
    "mean_diagonal": "Mean of diagonal",
    "mean_full": "Mean of full",
    "determinant": "Determinant",
    "trace": "Trace",
}
READINGS = {"published": "published code", "equation": "equation (1)", "centred": "centred"}
LEVELS = {"image": "Image AUROC", "pixel": "Pixel AUROC"}


@dataclass(frozen=True)
class Setting:
    """A row of a table: its labels, and the values of the scores' columns that pick its numbers.

    ``model`` is the paper's name for it, empty for a row that the paper does not have.
    """

    label: str
    reading: str
    model: str
    select: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation over the first three seeds; a 95 % t-interval of the mean over all."""

    mean: float
    std: float
    low: float
    high: float
    seeds: int


def summarise(values: Mapping[int, float]) -> Summary | None:
    """Summarise values by seed (percent); ``None`` when there are none. One seed has no spread: NaN."""
    if not values:
        return None
    first, every = paper.first_runs(dict(values)), list(values.values())
    std = statistics.stdev(first) if len(first) > 1 else float("nan")
    low = high = float("nan")
    if len(every) > 1:
        centre, error = statistics.fmean(every), statistics.stdev(every) / len(every) ** 0.5
        half = float(stats.t.ppf(0.975, len(every) - 1)) * error
        low, high = centre - half, centre + half
    return Summary(statistics.fmean(first), std, low, high, len(every))


def ace_settings(label: str, **select: str) -> list[Setting]:
    """PaDiM-ACE in its three readings: ACE as it is defined, the paper's equation, what its code computes."""
    return [
        Setting(label, READINGS[reading], "padim_ace", _select("ace", convention=reading, **select))
        for reading in reversed(paper.CONVENTIONS)
    ]


def table_settings(table: int) -> list[Setting]:
    """The rows of one of the paper's tables, ours beside it included."""
    if table == 1:
        return [
            *ace_settings("PaDiM-ACE"),
            Setting("PaDiM", "", "padim", _select("padim")),
            Setting("DFM", "", "dfm", _select("dfm", backbone="resnet50", covariance="")),
            Setting(
                "WinCLIP", "", "winclip", _select("winclip", backbone="vit_b_16_plus_240", covariance="")
            ),
            *_beyond_settings("resnet18"),
        ]
    if table == 2:
        names = [
            "resnet18",
            "convnextv2_tiny",
            "swinv2_tiny_window8_256",
            "mobilevit_xs",
            "tf_efficientnet_lite0",
        ]
        return [row for name in names for row in ace_settings(BACKBONES[name], backbone=name)]
    if table == 3:
        kinds = {"full": "", "diagonal": "", "isotropic": "mean_diagonal"}
        return [
            row
            for kind, aggregation in kinds.items()
            for row in ace_settings(COVARIANCES[kind], covariance=kind, aggregation=aggregation)
        ]
    return [
        row
        for name, label in AGGREGATIONS.items()
        for row in ace_settings(label, covariance="isotropic", aggregation=name)
    ]


def demo_settings() -> list[Setting]:
    """The rows of the demo's tables: PaDiM and PaDiM-ACE, with the backbone that comes with a package."""
    lite = "tf_efficientnet_lite0"
    return [
        Setting("PaDiM", "", "padim", _select("padim", backbone=lite)),
        *ace_settings("PaDiM-ACE", backbone=lite),
        *_beyond_settings(lite),
    ]


def _beyond_settings(backbone: str) -> list[Setting]:
    """Rows that the paper does not have: pooled signatures, and RX on grey levels."""
    ace, glrt = (_select(name, backbone=backbone, convention="centred") for name in ("ace", "glrt"))
    return [
        Setting("PaDiM-ACE", "centred, target pixels", "", ace | {"signature": "masked"}),
        Setting("PaDiM-ACE", "centred, mined patches", "", ace | {"signature": "mined"}),
        Setting("PaDiM-ACE", "target subspace", "", ace | {"signature": "subspace"}),
        Setting("Kelly's GLRT", "target subspace", "", glrt | {"signature": "subspace"}),
        Setting("RX", "grey levels", "", {"detector": "rx"}),
        Setting("RX", "one background", "", {"detector": "rx_shared"}),
    ]


def _select(detector: str, **changed: str) -> dict[str, str]:
    plain = {"backbone": "resnet18", "detector": detector, "covariance": "full", "aggregation": ""}
    plain |= {"signature": "mean" if detector == "ace" else "", "convention": ""}
    return plain | changed


def compare(
    settings: Iterable[Setting],
    scores: pd.DataFrame,
    dataset: str,
    published: pd.DataFrame | None = None,
    table: int = 0,
    not_run: paper.NotRun | None = None,
) -> pd.DataFrame:
    """Line up published and reproduced numbers of one dataset, in percent.

    Returns one row per setting and level: label, reading, level, metric, the paper's mean and std, ours with
    its interval and number of seeds, difference, tolerance, verdict and a note. A number that one side does
    not have is NaN; the paper's side is that of the dataset which was prepared as the paper says
    (:data:`padim_ace.paper.published.PREPARED`), and empty for another. Settings of which neither side has
    a number are left out.
    """
    rows = []
    for setting in settings:
        for level in LEVELS:
            where = {**setting.select, "dataset": dataset, "level": level, "metric": "auroc"}
            chosen = _where(scores, where)
            values = {
                int(seed): 100 * value for seed, value in zip(chosen["seed"], chosen["value"], strict=True)
            }
            cell = _published_cell(published, table, setting, where)
            if cell is None and not values:
                continue
            rows.append(_compared(setting, where, cell, values, not_run or {}))
    frame = pd.DataFrame(rows, columns=list(_EMPTY)).fillna({"verdict": "", "note": ""})
    idle = frame.groupby("label")["mean"].transform("count") == 0
    frame.loc[idle, "reading"] = ""  # a setting that was not run has one line, not one per reading
    return frame.drop_duplicates(["label", "reading", "level"], ignore_index=True)


_EMPTY: dict[str, Any] = dict.fromkeys(
    [
        *("dataset", "label", "reading", "backbone", "level", "metric", "paper_mean", "paper_std"),
        *("mean", "std", "low", "high", "seeds", "difference", "tolerance", "verdict", "note"),
    ]
)


def _where(frame: pd.DataFrame, words: Mapping[str, str]) -> pd.DataFrame:
    for column, word in words.items():
        frame = frame[frame[column] == word]
    return frame


def _published_cell(
    published: pd.DataFrame | None, table: int, setting: Setting, where: Mapping[str, str]
) -> Any:
    if published is None or not setting.model or where["dataset"] not in paper.IN_PAPER:
        return None
    shared = {name: where[name] for name in paper.COLUMNS if name in where}
    shared["dataset"] = paper.IN_PAPER[where["dataset"]]
    found = _where(published[published["table"] == table], {"model": setting.model, **shared})
    return SimpleNamespace(**found.iloc[0].to_dict()) if len(found) else None


def _compared(
    setting: Setting, where: Mapping[str, str], cell: Any, values: dict[int, float], not_run: paper.NotRun
) -> dict[str, Any]:
    row = _EMPTY | {"dataset": where["dataset"], "label": setting.label, "reading": setting.reading}
    row |= {"level": where["level"], "metric": where["metric"], "backbone": where.get("backbone", "")}
    summary = summarise(values)
    row |= {"seeds": 0} if summary is None else vars(summary)
    if cell is not None:
        found = paper.verdict(cell.mean, cell.std, paper.first_runs(values))
        row |= {"paper_mean": cell.mean, "paper_std": cell.std, "verdict": found.word}
        row |= {"difference": found.difference, "tolerance": found.tolerance}
        row["note"] = paper.why_not_run(cell, not_run) if found.word == "not run" else ""
    return row


def in_words(frame: pd.DataFrame) -> str:
    """A :func:`compare` table as sentences, for those who can't see its figure."""
    said = []
    for row in frame.itertuples(index=False):
        values = [
            f"{who} {value:.1f}"
            for who, value in (("paper", row.paper_mean), ("here", row.mean))
            if pd.notna(value)
        ]
        name = f"{row.label} {row.reading}".strip()
        said.append(f"{name}, {row.level}: {', '.join(values)}.")
    return f"{DATASETS[frame['dataset'].iloc[0]]}: {' '.join(said)}" if said else ""


def ledger(
    published: pd.DataFrame, scores: pd.DataFrame, not_run: paper.NotRun | None = None
) -> pd.DataFrame:
    """Every number of the paper with ours in each reading, a verdict and what explains it, one row each.

    The verdict is on the dataset that was prepared as the paper says, ``prepared``, and on PaDiM-ACE in the
    reading ``published``, what the paper's own code computes. ``ours_by_masks`` is that same detector on SSDD
    with its targets removed by the release's masks, which the paper did not do.
    """
    rows = []
    for cell in published.itertuples(index=False):
        readings = paper.CONVENTIONS if cell.model == "padim_ace" else ("",)
        sought = paper.as_prepared(cell)
        ours = {reading: paper.first_runs(paper.reproduced(sought, scores, reading)) for reading in readings}
        other = paper.reproduced(cell, scores, readings[0]) if sought.dataset != cell.dataset else {}
        found = paper.verdict(cell.mean, cell.std, ours[readings[0]])
        note = ""
        if found.word == "not run":
            note = paper.why_not_run(cell, not_run or {})
        elif found.word == "differs":
            note = paper.why_different(cell)
        means = {
            f"ours_{reading or 'model'}": statistics.fmean(v) if v else None for reading, v in ours.items()
        }
        row = dict(zip(published.columns, cell, strict=True)) | {"ours_model": None} | means
        row |= {
            "prepared": sought.dataset,
            "ours_by_masks": statistics.fmean(paper.first_runs(other)) if other else None,
            "difference": found.difference,
            "tolerance": found.tolerance,
            "verdict": found.word,
            "note": note,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def numbers(published: pd.DataFrame, scores: pd.DataFrame) -> dict[str, str]:
    """The numbers that the book's prose names, by name, so that none is typed.

    ``paper_<dataset>_<model>_<level>`` are Table 1's, ``ours_<dataset>_<model>_<level>`` what stands beside
    them (SSDD prepared as the paper says is ``ssdd_kmeans``, by masks ``ssdd``); for PaDiM-ACE there is one
    per reading, ``ours_<dataset>_padim_ace_<reading>_<level>``, and ``ours_<dataset>_<signature>_<level>``
    for ACE with a mined signature and Kelly's statistic with a target subspace.
    """
    found = {}
    for cell in published[published["table"] == 1].itertuples(index=False):
        found[f"paper_{cell.dataset}_{cell.model}_{cell.level}"] = mean_std(cell.mean, cell.std)
    for dataset in ("mstar", "ssdd_kmeans", "ssdd", "hrsid"):
        for model in MODELS:
            for reading in paper.CONVENTIONS if model == "padim_ace" else ("",):
                name = f"{dataset}_{model}_{reading}" if reading else f"{dataset}_{model}"
                for level in LEVELS:
                    sought = SimpleNamespace(**_TABLE_1[model], dataset=dataset, level=level)
                    summary = summarise(paper.reproduced(sought, scores, reading))
                    found[f"ours_{name}_{level}"] = _or_not_run(summary)
        for statistic, signature in (("ace", "mined"), ("glrt", "subspace")):
            pooled = _select(statistic, convention="centred", signature=signature)
            for level in LEVELS:
                rows = _where(scores, pooled | {"dataset": dataset, "level": level, "metric": "auroc"})
                values = dict(zip(rows["seed"], 100 * rows["value"], strict=True))
                summary = summarise(values)
                found[f"ours_{dataset}_{signature}_{level}"] = _or_not_run(summary)
    counts = ledger(published, scores)["verdict"].value_counts()
    found |= {
        f"count_{word.replace(' ', '_')}": str(counts.get(word, 0))
        for word in ("reproduced", "differs", "not run")
    }
    return found | {"count_published": str(len(published))}


_TABLE_1 = {
    model: {
        "model": model,
        "backbone": backbone,
        "covariance": covariance,
        "aggregation": "",
        "metric": "auroc",
    }
    for model, backbone, covariance in (
        ("padim_ace", "resnet18", "full"),
        ("padim", "resnet18", "full"),
        ("dfm", "resnet50", ""),
        ("winclip", "vit_b_16_plus_240", ""),
    )
}


def _or_not_run(summary: Summary | None) -> str:
    return mean_std(summary.mean, summary.std) if summary else "not run"


def mean_std(mean: float, std: float) -> str:
    """``84.99 ± 2.56``, as the paper writes it; without the spread where there is none."""
    return f"{mean:.2f} ± {std:.2f}" if pd.notna(std) else f"{mean:.2f}"
