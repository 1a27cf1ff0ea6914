"""The tables and sentences of the chapter on the deviations.

:mod:`padim_ace.report.deviation_effects` finds what they show. Numbers are AUROC in percent and their
differences in points, unless said otherwise.
"""

from __future__ import annotations

import pandas as pd

from padim_ace.paper.published import IN_PAPER
from padim_ace.report.deviation_effects import COVARIANCE, by_seed
from padim_ace.report.html_tables import Cell, Head, frame_html, number_text, table_html
from padim_ace.report.tables import DATASETS, MODELS, READINGS


def _with_std(mean: float, std: float, form: str = "+.1f") -> str:
    if pd.isna(mean):
        return "–"
    return number_text(mean, form) + (f" ± {std:.1f}" if pd.notna(std) else "")


def _spread_cell(mean: float, std: float, form: str) -> Cell:
    return Cell(_with_std(mean, std, form), mean if pd.notna(mean) else -1e3)


def _in_tens(value: float) -> str:
    """A small number as 3.9·10⁻⁶."""
    if not value:
        return "0"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}·10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def effects_html(effects: pd.DataFrame, scores: pd.DataFrame, dataset: str, backbone: str) -> str:
    """D1 to D5 switched alone on one dataset, of ``effects``, as a table."""
    part = effects[effects["dataset"] == dataset]
    body = []
    for deviation in sorted(part["deviation"].unique()):
        line = [Cell(word, word, kind="text") for word in (deviation, COVARIANCE[deviation])]
        for level in ("image", "pixel"):
            for direction in ("corrected", "introduced"):
                at = {"deviation": deviation, "level": level, "direction": direction}
                line.append(_effect_cell(part[(part[list(at)] == list(at.values())).all(axis=1)]))
        body.append(line)
    ends = {
        f"{convention}, {level}": by_seed(scores, dataset, level, backbone, convention=convention)
        for convention in ("published", "centred")
        for level in ("image", "pixel")
    }
    stated = "; ".join(f"{end} {values.mean():.2f}" for end, values in ends.items() if len(values))
    caption = (
        f"{DATASETS[dataset]}: change of AUROC in points (mean ± standard deviation over the seeds, paired) "
        "when one deviation is corrected in the published code, or introduced in the detector as it is "
        f"meant. AUROC with full covariance, in %: {stated}."
    )
    directions = ["corrected", "introduced"]
    heads: list[Head] = [("Deviation", []), ("Covariance", [])]
    heads += [("Image AUROC", directions), ("Pixel AUROC", directions)]
    return table_html(heads, body, caption, part, f"deviations_{dataset}")


def _effect_cell(rows: pd.DataFrame) -> Cell:
    if rows.empty:
        return Cell("–", -1e3)
    row = rows.iloc[0]
    title = f"{row['before']:.2f} to {row['after']:.2f}, {row['seeds']} seeds"
    return Cell(_with_std(row["effect"], row["std"]), float(row["effect"]), title=title)


def effects_in_words(effects: pd.DataFrame, scores: pd.DataFrame, backbone: str) -> str:
    """Which deviation matters most for image AUROC, and whether the effects add up; a Markdown list."""
    image = effects[effects["level"] == "image"]
    ways = {
        "corrected": ("the published code", "correcting"),
        "introduced": ("the detector as it is meant", "introducing"),
    }
    most, together = [], []
    for dataset, part in image.groupby("dataset", sort=False):
        title = DATASETS[dataset]
        for direction, rows in part.groupby("direction", sort=False):
            row = rows.loc[rows["effect"].abs().idxmax()]
            base, verb = ways[direction]
            most.append(
                f"{title}: in {base}, {verb} {row['deviation']} has the largest effect on image AUROC, "
                f"{_with_std(row['effect'], row['std'])} points ({row['before']:.1f} to {row['after']:.1f})."
            )
        centred, published = (
            by_seed(scores, dataset, "image", backbone, convention=convention)
            for convention in ("centred", "published")
        )
        alone = part[part["deviation"] != "D2"].groupby("direction")["effect"].sum()
        together.append(
            f"{title}: D1, D3, D4 and D5 corrected together change image AUROC by "
            f"{number_text((centred - published).mean(), '+.1f')} points; the four corrected alone add up to "
            f"{number_text(alone['corrected'], '+.1f')}, and the four introduced alone to "
            f"{number_text(alone['introduced'], '+.1f')}."
        )
    return _list(most + together)


def aggregations_in_words(apart: pd.DataFrame, paper: pd.DataFrame) -> str:
    """How far apart the four aggregations are at most, here and in the paper's Table 4."""
    worst = apart.groupby("level")["largest"].max()
    four = paper[paper["table"] == 4].groupby("level")["mean"].agg(lambda means: means.max() - means.min())
    why = ", a pair of images whose scores agree to the last digits of a float changing places" * bool(
        worst["image"]
    )
    return (
        f"In {apart['compared'].sum()} settings (dataset, backbone, reading, seed, level) all four "
        f"aggregations were run. Between any two of the four lie at most {_in_tens(worst['pixel'])} points "
        f"of pixel AUROC and {_in_tens(worst['image'])} points of image AUROC{why}. "
        f"In the paper's Table 4 it is {four['pixel']:.2f} and {four['image']:.2f} points."
    )


def aggregations_html(apart: pd.DataFrame, caption: str, name: str) -> str:
    """A :func:`padim_ace.report.deviation_effects.aggregation_spread` as a table."""
    heads: list[Head] = [
        (head, [])
        for head in ("Dataset", "Reading", "Compared", "Image AUROC, points", "Pixel AUROC, points")
    ]
    body = []
    for (dataset, convention), rows in apart.groupby(["dataset", "convention"]):
        by_level = rows.set_index("level")["largest"]
        line = [Cell(word, word, kind="text") for word in (DATASETS[dataset], READINGS[convention])]
        line.append(Cell(str(rows["compared"].iloc[0]), float(rows["compared"].iloc[0])))
        body.append([*line, *(Cell(_in_tens(by_level[lv]), by_level[lv]) for lv in ("image", "pixel"))])
    return table_html(heads, body, caption, apart, name)


def spread_html(spread: pd.DataFrame, caption: str, name: str) -> str:
    """A :func:`padim_ace.report.deviation_effects.seed_spread` as a table."""
    heads = ["Detector", "Level", "Seeds", "Mean", "Std", "Least", "Greatest"]
    return frame_html(spread.set_axis(heads, axis=1), caption, name)


def paper_spread_in_words(paper: pd.DataFrame, dataset: str) -> str:
    """The standard deviations that the paper gives for a dataset of ours; empty where it gives none."""
    rows = paper[(paper["table"] == 1) & (paper["dataset"] == IN_PAPER.get(dataset))]
    rows = rows[rows["model"].isin(["padim", "padim_ace"])]
    if rows.empty:
        return ""
    stds = ", ".join(f"{MODELS[row.model]} {row.level} {row.std:.2f}" for row in rows.itertuples())
    return f"{DATASETS[dataset]}: standard deviations in the paper, over three runs: {stds} points."


FILL = {
    "correlation_background": "correlation of neighbouring pixels, background",
    "correlation_fill": "correlation of neighbouring pixels, fill",
    "window_auroc": "AUROC, windows of fill against windows of background",
    "image_auroc": "AUROC, anomalous images against normals, by the least correlated window",
    "padim_image_auroc": "PaDiM: image AUROC, normals with a second fill against the same without",
    "padim_pixel_auroc": "PaDiM: pixel AUROC of the second fill",
    "padim_pixel_auroc_before": "PaDiM: pixel AUROC of the same place without it",
}
"""What ``fill.csv`` measures, in words."""


def fill_in_words(fill: pd.DataFrame) -> str:
    """D9: the rows of ``fill.csv`` in words, a paragraph per dataset."""
    said = []
    for dataset, rows in fill.groupby("dataset", sort=False):
        found = rows.set_index("measure")["value"]
        text = (
            f"**{DATASETS[dataset]}** ({found['images']:.0f} pairs). Neighbouring pixels correlate by "
            f"{number_text(found['correlation_background'])} in the background and by "
            f"{number_text(found['correlation_fill'])} in the fill, and by that alone windows of fill are "
            f"told from windows of background with an AUROC of {100 * found['window_auroc']:.1f} %. A "
            "detector that gives each image the correlation of its least correlated window, and so looks for "
            "the fill and never for a target, separates the anomalous images from the normals with an image "
            f"AUROC of **{100 * found['image_auroc']:.1f} %**."
        )
        if "padim_image_auroc" in found.dropna():
            text += (
                f" Does PaDiM use this? {found['padim_images']:.0f} test normals were filled a second time, "
                "in a place that shows background. Against the same images without that fill PaDiM's image "
                f"AUROC is {100 * found['padim_image_auroc']:.1f} % (50 % is chance); the pixels of the "
                f"second fill have a pixel AUROC of {100 * found['padim_pixel_auroc']:.1f} %, "
                f"{100 * found['padim_pixel_auroc_before']:.1f} % before the fill."
            )
        said.append(text)
    return "\n\n".join(said)


def fill_html(fill: pd.DataFrame, caption: str, name: str) -> str:
    """The rows of ``fill.csv`` as a table, a column per dataset."""
    datasets = list(dict.fromkeys(fill["dataset"]))
    wide = fill.pivot(index="measure", columns="dataset", values="value")
    rows = [[FILL[measure], *wide.loc[measure, datasets]] for measure in FILL if measure in wide.index]
    heads = ["Measure", *(DATASETS[dataset] for dataset in datasets)]
    return frame_html(pd.DataFrame(rows, columns=heads), caption, name, ".3f")


def removal_html(removal: pd.DataFrame, caption: str, name: str) -> str:
    """A :func:`padim_ace.report.deviation_effects.removal_effect` as a table."""
    forms = {"masks": ".1f", "kmeans": ".1f", "difference": "+.1f", "paper": ".2f"}
    body = [
        [Cell(row[word], row[word], kind="text") for word in ("setting", "level")]
        + [_spread_cell(row[of], row[f"{of}_std"], form) for of, form in forms.items()]
        for row in removal.to_dict("records")
    ]
    heads: list[Head] = [
        (head, []) for head in ("Detector", "Level", "By masks", "By k-means", "Difference", "Paper")
    ]
    return table_html(heads, body, caption, removal, name)


def removal_in_words(removal: pd.DataFrame) -> str:
    """What the way of removing SSDD's targets does to PaDiM."""
    row = removal[(removal["setting"] == "PaDiM") & (removal["level"] == "image")].iloc[0]
    return (
        f"PaDiM's image AUROC on SSDD is {row['masks']:.1f} % by masks and {row['kmeans']:.1f} % by k-means, "
        f"a difference of {_with_std(row['difference'], row['difference_std'])} points; the paper has "
        f"{row['paper']:.2f} %."
    )


def clamp_in_words(clamp: pd.DataFrame) -> str:
    """D10: the rows of ``clamp.csv`` of one backbone in words: over all detectors, and at most."""
    change = 100 * (clamp["clamped"] - clamp["raw"])
    most = clamp.loc[change.abs().idxmax()]
    which = {"padim": "PaDiM", "ace": "PaDiM-ACE"}.get(most["detector"], most["detector"])
    reading = READINGS.get(most["convention"], most["convention"])
    signature = "" if most["signature"] == "mean" else most["signature"]
    detector = ", ".join(filter(None, (which, reading, signature)))
    return (
        f"Over {len(clamp)} runs the clamp ties {100 * clamp['tied'].mean():.1f} % of the test images at 0 "
        f"or 1 on average. It changes image AUROC by at most {change.abs().max():.2f} points "
        f"({DATASETS[most['dataset']]}, {detector}, seed {most['seed']}), and by {change.abs().mean():.2f} "
        "points on average."
    )


def clamp_html(clamped: pd.DataFrame, caption: str, name: str) -> str:
    """A :func:`padim_ace.report.deviation_effects.clamp_effect` as a table."""
    forms = {"raw": ".2f", "clamped": ".2f", "change": "+.2f", "most": "+.2f", "tied": ".1f"}
    body = [
        [Cell(word, word, kind="text") for word in (DATASETS[row["dataset"]], row["setting"])]
        + [Cell(number_text(row[of], form), row[of]) for of, form in forms.items()]
        for row in clamped.to_dict("records")
    ]
    heads: list[Head] = [
        (head, [])
        for head in ("Dataset", "Detector", "Raw", "Clamped", "Mean change", "Largest change", "Tied, %")
    ]
    return table_html(heads, body, caption, clamped, name)
