# %% [markdown]
# (the-deviations)=
# # Why the numbers differ
#
# The paper's text describes one detector, its [published code](https://github.com/Advanced-Vision-and-Learning-Lab/PaDiM-ACE)
# (revision `7dff7f4`) computes another. This chapter takes the differences one at a time: what each does, where it is,
# and what it changes when it alone is switched.
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads `scores.csv`, `fill.csv`, `clamp.csv` and `histograms.csv` of a results folder, and the paper's numbers; writes
# nothing. Needs no image and no GPU; takes about 15 s. Its drawings are made from simulated images.
# :::

# %% tags=["parameters"]
results = "results/paper"  # a folder with scores.csv and provenance.json, and perhaps fill.csv, clamp.csv, histograms.csv
published = "book/published.csv"  # the paper's numbers
backbone = "resnet18"

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display

from data_prep import scenes
from data_prep.target_removal import remove_by_mask
from padim_ace import deviation_effects as effects_of
from padim_ace import deviation_figures as drawn
from padim_ace import html_tables, tables
from padim_ace.backbones import load_backbone
from padim_ace.deviation_effects import by_seed
from padim_ace.figures import show
from padim_ace.fill_visibility import filled_region, window_correlation
from padim_ace.html_tables import Cell
from padim_ace.published import IN_PAPER, read_published
from padim_ace.results import project_path, read_scores

folder = project_path(results)
scores = read_scores(folder / "scores.csv")
paper = read_published(project_path(published))
titles = tables.DATASETS
datasets = [name for name in ("mstar", "ssdd") if name in set(scores["dataset"])]
measured = {
    name: pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
    if (folder / f"{name}.csv").is_file()
    else None
    for name in ("fill", "clamp", "histograms")
}


def say(value, form=".2f"):
    """A number as text, with a true minus sign and none before a zero."""
    text = format(value, form)
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def in_tens(value):
    """A small number as 3.9·10⁻⁶."""
    if not value:
        return "0"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}·10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def number(value, form=".2f"):
    return Cell("–", -1e3) if pd.isna(value) else Cell(say(value, form), float(value))


def word(text):
    return Cell(text, text, kind="text")


def draw(heads, body, caption, data, name):
    """Show a table; a head is a string, or a string and the heads of its parts."""
    heads = [(head, []) if isinstance(head, str) else head for head in heads]
    display(HTML(html_tables.table_html(heads, body, caption, data, name)))


def with_std(mean, std, form="+.1f"):
    return say(mean, form) + (f" ± {std:.1f}" if pd.notna(std) else "")


def absent(what, how):
    return Markdown(f"*{what}: not in these results; {how}.*")


# %% [markdown]
# | | Deviation from the paper's text | Where in the code |
# |---|---|---|
# | D1 | whitens with $\Sigma^{+1/2}$: the precision is passed where the covariance belongs | `padim/loss.py`, `anomaly_map.py` |
# | D2 | the "diagonal" covariance is the diagonal of the precision | `loss.py` |
# | D3 | the signature is scrambled: an (h, w, C) mean is reshaped to (C, h·w) without a permutation | `torch_model.py` |
# | D4 | the signature's images are not normalised as all other images are | `torch_model.py` |
# | D5 | the background's mean is not subtracted from the signature | `loss.py` |
# | D6 | isotropic: the variance is always the log-determinant, whatever aggregation is asked for | `loss.py` |
# | D7 | feature subset and splits are not seeded | `torch_model.py`, `demo.py` |
# | D8 | the Mahalanobis baseline can't run: the map generator is only built for `loss="lace"` | `torch_model.py` |
# | D9 | normals are copies of anomalous images with the target filled, and the fill can be seen | [data preparation](prepared_format.md) |
# | D10 | scores are clamped to [0, 1] before AUROC is computed, and ties change it | anomalib's post-processor |
#
# In the results, a *convention* names a set of these: `published` has D1 to D6, `equation` is the paper's Eq. (1) to
# the letter (D5 alone), `centred` is ACE as it is defined (none). `published-D3` is the published code with D3
# corrected, `centred+D3` the detector as it is meant with D3 introduced.
#
# ## D1 to D5, each switched alone

# %% tags=["hide-input"]
found = (
    pd.concat([effects_of.effects(scores, name, backbone) for name in datasets])
    if datasets
    else pd.DataFrame()
)
if found.empty:
    display(absent("AUROC of MSTAR and SSDD", "`make book PROFILE=paper`"))


def effect_cell(rows):
    if rows.empty:
        return Cell("–", -1e3)
    row = rows.iloc[0]
    title = f"{row['before']:.2f} to {row['after']:.2f}, {row['seeds']} seeds"
    return Cell(with_std(row["effect"], row["std"]), float(row["effect"]), title=title)


for name in datasets:
    part = found[found["dataset"] == name]
    body = []
    for deviation in sorted(part["deviation"].unique()):
        line = [word(deviation), word(effects_of.COVARIANCE[deviation])]
        for level in ("image", "pixel"):
            for direction in ("corrected", "introduced"):
                chosen = part[
                    (part["deviation"] == deviation)
                    & (part["level"] == level)
                    & (part["direction"] == direction)
                ]
                line.append(effect_cell(chosen))
        body.append(line)
    ends = {
        f"{convention}, {level}": by_seed(scores, name, level, backbone, convention=convention)
        for convention in ("published", "centred")
        for level in ("image", "pixel")
    }
    stated = "; ".join(f"{key} {values.mean():.2f}" for key, values in ends.items() if len(values))
    caption = (
        f"{titles[name]}: change of AUROC in points (mean ± standard deviation over the seeds, paired) when one "
        "deviation is corrected in the published code, or introduced in the detector as it is meant. AUROC with full "
        f"covariance, in %: {stated}."
    )
    directions = ["corrected", "introduced"]
    heads = ["Deviation", "Covariance", ("Image AUROC", directions), ("Pixel AUROC", directions)]
    draw(heads, body, caption, part, f"deviations_{name}")

# %% tags=["hide-input"]
if not found.empty:
    figure, alt = drawn.effects_figure(found, titles)
    display(
        show(
            figure, alt, "Each deviation switched alone; the bars are one standard deviation over the seeds."
        )
    )

# %% tags=["hide-input"]
lines = []
for name in datasets:
    part = found[(found["dataset"] == name) & (found["level"] == "image")]
    for direction, verb in (("corrected", "correcting"), ("introduced", "introducing")):
        rows = part[part["direction"] == direction]
        if len(rows):
            most = rows.loc[rows["effect"].abs().idxmax()]
            base = {"corrected": "the published code", "introduced": "the detector as it is meant"}[direction]
            lines.append(
                f"- {titles[name]}: in {base}, {verb} {most['deviation']} has the largest effect on image AUROC, "
                f"{with_std(most['effect'], most['std'])} points ({most['before']:.1f} to {most['after']:.1f})."
            )
for name in datasets:
    part = found[(found["dataset"] == name) & (found["level"] == "image") & (found["deviation"] != "D2")]
    together = by_seed(scores, name, "image", backbone, convention="centred") - by_seed(
        scores, name, "image", backbone, convention="published"
    )
    lines.append(
        f"- {titles[name]}: D1, D3, D4 and D5 corrected together change image AUROC by {say(together.mean(), '+.1f')} points; "
        f"the four corrected alone add up to {say(part[part['direction'] == 'corrected']['effect'].sum(), '+.1f')}, and the "
        f"four introduced alone to {say(part[part['direction'] == 'introduced']['effect'].sum(), '+.1f')}."
    )
Markdown(
    "\n".join(lines)
    + "\n\nThe effects do not add up, because one deviation hides another: a signature that is scrambled is "
    "scrambled whether or not it was centred first, and a deviation corrected alone leaves the others in place. Both "
    "directions are needed to see what each does."
    if datasets
    else ""
)

# %% [markdown]
# ### D1: whitening the wrong way round
#
# ACE is a cosine after whitening: $\hat x = \Sigma^{-1/2}(x-\mu)$ has unit covariance, so that a direction in which the
# background hardly varies counts for much. The paper takes $U$ and $D$ from $\Sigma^{-1}$ (below its Eq. 2), and its code
# passes the precision to a function that expects the covariance and returns its $D^{-1/2}U^\top$: whitening with
# $\Sigma^{+1/2}$. The covariance is then not removed but squared, $\Sigma^{1/2}\,\Sigma\,\Sigma^{1/2}=\Sigma^2$, and the
# cosine compares embeddings along the background's own main directions.

# %% tags=["hide-input"]
figure, alt = drawn.whitening_figure()
show(
    figure,
    alt,
    "A simulated Gaussian with two features (not SAR data): background, a target and its signature (arrow), in feature "
    "space, whitened, and transformed as the published code does. Dashed: the background's 2σ ellipse.",
)

# %% [markdown]
# ### D2: the diagonal of the inverse
#
# The diagonal of $\Sigma^{-1}$ is not the inverse of the diagonal of $\Sigma$ unless the features are uncorrelated:
# $(\Sigma^{-1})_{dd} = 1/\operatorname{Var}(x_d \mid \text{all others})$, the variance that is left when the other features are known.
# The switch is measured on the diagonal covariance, the others on the full one.
#
# ### D3: the scrambled signature
#
# The mean of the anomalous embeddings is an array (h, w, C). The code reshapes it to (C, h·w), which keeps the order in
# memory: the first "feature" of the result is the first h·w numbers, the features of the first few places one after the
# other. Every feature at every place is replaced by another feature of another place.

# %% tags=["hide-input"]
images = np.stack(
    [scenes.vehicle(128, 1, "train", True, np.random.default_rng(seed)).image for seed in range(8)]
)
figure, alt = drawn.signature_figure(
    images, load_backbone("tf_efficientnet_lite0", image_size=images.shape[1:])
)
show(
    figure,
    alt,
    "Above: the mean embedding of eight simulated vehicles (EfficientNet-Lite0, 100 features), the four features that vary "
    "most. Below: the arrays that the published code takes for the same four features.",
)

# %% [markdown]
# ### D4 and D5: a signature measured in other units, from another origin
#
# Normal and test images are normalised with ImageNet's mean and standard deviation before the backbone sees them; the
# signature's images are not (D4). And the embedding $x$ enters ACE as $x-\mu$, the signature as $s$ instead of $s-\mu$
# (D5). In the literature on ACE the signature is either measured from the background's mean too, or learned in the
# centred space; a raw mean embedding is neither. Most of it is what target and background have in common, $s \approx \mu$,
# and a cosine with it asks how much an embedding's deviation looks like the *mean* of the background.
#
# ## D6, and why the four columns of Table 4 are one detector
#
# With an isotropic covariance, $\Sigma = c\,I$ for some $c > 0$, whatever aggregation $c$ comes from,
#
# $$\frac{s^\top \Sigma^{-1} x}{\sqrt{s^\top \Sigma^{-1} s}\,\sqrt{x^\top \Sigma^{-1} x}}
# = \frac{c^{-1}\, s^\top x}{c^{-1/2}\lVert s\rVert\; c^{-1/2}\lVert x\rVert}
# = \frac{s^\top x}{\lVert s\rVert\,\lVert x\rVert},$$
#
# and $c$ is gone: mean of the diagonal, mean of all entries, determinant, trace, and the log-determinant that the code
# always takes (D6), give the same score. What the paper's Table 4 shows is the spread from run to run (D7).

# %% tags=["hide-input"]
apart = effects_of.aggregation_spread(scores)
if apart.empty:
    display(absent("The four aggregations", "`make book PROFILE=paper`"))
else:
    worst = apart.groupby("level")["largest"].max()
    four = paper[paper["table"] == 4].groupby("level")["mean"].agg(lambda means: means.max() - means.min())
    text = (
        f"In {apart['compared'].sum()} settings (dataset, backbone, reading, seed, level) all four aggregations were run. "
        f"Between any two of the four lie at most {in_tens(worst['pixel'])} points of pixel AUROC and "
        f"{in_tens(worst['image'])} points of image AUROC"
        + (", a pair of images whose scores agree to the last digits of a float changing places. " if worst["image"] else ". ")
        + f"In the paper's Table 4 it is {four['pixel']:.2f} and {four['image']:.2f} points."
    )
    body = []
    for (name, convention), rows in apart.groupby(["dataset", "convention"]):
        by_level = rows.set_index("level")["largest"]
        line = [word(titles[name]), word(tables.READINGS[convention]), number(rows["compared"].iloc[0], "d")]
        body.append(line + [Cell(in_tens(by_level[level]), by_level[level]) for level in ("image", "pixel")])
    display(Markdown(text))
    heads = ["Dataset", "Reading", "Compared", "Image AUROC, points", "Pixel AUROC, points"]
    draw(heads, body, "The largest difference between any two of the four aggregations.", apart, "aggregations")

# %% [markdown]
# ## D7: nothing was seeded
#
# The published code draws the feature subset and the splits anew in each run. Here every seed fixes both. How far the
# same detector moves from seed to seed:

# %% tags=["hide-input"]
NAMED = {
    "PaDiM": {"detector": "padim", "signature": "", "convention": ""},
    "PaDiM-ACE, published code": {"detector": "ace", "signature": "mean", "convention": "published"},
    "PaDiM-ACE, equation (1)": {"detector": "ace", "signature": "mean", "convention": "equation"},
    "PaDiM-ACE, centred": {"detector": "ace", "signature": "mean", "convention": "centred"},
    "PaDiM-ACE, centred, target pixels": {"detector": "ace", "signature": "masked", "convention": "centred"},
}
# The spread of PaDiM and PaDiM-ACE in the paper is that of its SSDD, whose targets were removed by k-means.
for name in sorted({*datasets, "ssdd_kmeans"} & set(scores["dataset"])):
    parts = {
        level: effects_of.seed_spread(scores, name, level, backbone, NAMED) for level in ("image", "pixel")
    }
    frame = pd.concat([part.assign(level=level) for level, part in parts.items()])
    body = [
        [
            word(row.setting),
            word(row.level),
            number(row.seeds, "d"),
            *(number(value) for value in (row.mean, row.std, row.least, row.greatest)),
        ]
        for row in frame.itertuples()
    ]
    heads = ["Detector", "Level", "Seeds", "Mean", "Std", "Least", "Greatest"]
    told = paper[
        (paper["table"] == 1)
        & (paper["dataset"] == IN_PAPER.get(name))
        & paper["model"].isin(["padim", "padim_ace"])
    ]
    if len(told):
        stds = (f"{tables.MODELS[row.model]} {row.level} {row.std:.2f}" for row in told.itertuples())
        text = f"standard deviations in the paper, over three runs: {', '.join(stds)} points."
        display(Markdown(f"{titles[name]}: {text}"))
    caption = f"{titles[name]}: AUROC in % over seeds of splits and features."
    draw(heads, body, caption, frame, f"seeds_{name}")

# %% [markdown]
# ## D8: the baseline that can't run
#
# In the published repository the model builds its anomaly-map generator only if `loss="lace"`. With the Mahalanobis loss
# there is none and the first image fails, so that the paper's row *PaDiM* can't have come from the code that made the row
# *PaDiM-ACE*; it is anomalib's own `Padim`, with its own feature subset and its own splits. Here both are computed in one
# pass, from the same embeddings, splits and background, and differ in nothing but the statistic.
#
# (the-fill)=
# ## D9: the fill can be seen
#
# On MSTAR and SSDD a normal image is an anomalous image whose target was filled with background pixels drawn at random,
# one by one. The fill has the background's grey levels, but not its texture: in a SAR image neighbouring pixels are
# correlated (one resolution cell covers several, and JPEG smooths them further), in the fill they are independent. That is
# how the images here are made, and how the paper says that its were; the code that it points to differs in details, which
# [stand beside the prepared format](#preparation-differences).

# %% tags=["hide-input"]
scene = scenes.vehicle(128, 1, "train", True, np.random.default_rng(3))
erased = remove_by_mask(scene.image, scene.mask, np.random.default_rng(0), dilation=11)
figure, alt = drawn.fill_figure(erased, filled_region(scene.image, erased), window_correlation(erased))
show(
    figure,
    alt,
    "A simulated vehicle with its target erased, and the correlation of neighbouring pixels in a 15 px window.",
)

# %% tags=["hide-input"]
fill = measured["fill"]
LABELS = {
    "correlation_background": "correlation of neighbouring pixels, background",
    "correlation_fill": "correlation of neighbouring pixels, fill",
    "window_auroc": "AUROC, windows of fill against windows of background",
    "image_auroc": "AUROC, anomalous images against normals, by the least correlated window",
    "padim_image_auroc": "PaDiM: image AUROC, normals with a second fill against the same without",
    "padim_pixel_auroc": "PaDiM: pixel AUROC of the second fill",
    "padim_pixel_auroc_before": "PaDiM: pixel AUROC of the same place without it",
}
if fill is None:
    display(absent("How visible the fill is", "run `notebooks/fill_visibility.py` on the prepared datasets"))
else:
    wide = fill.pivot(index="measure", columns="dataset", values="value")
    names = [name for name in ("mstar", "ssdd", "ssdd_kmeans") if name in wide.columns]
    for name in names:
        column = wide[name]
        text = (
            f"**{titles[name]}** ({column['images']:.0f} pairs). Neighbouring pixels correlate by "
            f"{say(column['correlation_background'])} in the background and by {say(column['correlation_fill'])} in the fill, "
            f"and by that alone windows of fill are told from windows of background with an AUROC of "
            f"{100 * column['window_auroc']:.1f} %. A detector that gives each image the correlation of its least correlated "
            f"window, and so looks for the fill and never for a target, separates the anomalous images from the normals with "
            f"an image AUROC of **{100 * column['image_auroc']:.1f} %**."
        )
        if "padim_image_auroc" in column.dropna():
            text += (
                f" Does PaDiM use this? {column['padim_images']:.0f} test normals were filled a second time, in a place that "
                "shows background. Against the same images without that fill PaDiM's image AUROC is "
                f"{100 * column['padim_image_auroc']:.1f} % (50 % is chance); the pixels of the second fill have a pixel "
                f"AUROC of {100 * column['padim_pixel_auroc']:.1f} %, {100 * column['padim_pixel_auroc_before']:.1f} % before "
                "the fill."
            )
        display(Markdown(text))
    body = [
        [word(label), *(number(wide.loc[measure, name], ".3f") for name in names)]
        for measure, label in LABELS.items()
        if measure in wide.index
    ]
    caption = "How well the fill is told from background (fractions)."
    draw(["Measure", *(titles[n] for n in names)], body, caption, fill, "fill")
    display(
        Markdown(
            "A high image AUROC on such a benchmark can thus be had without finding a single target, and says nothing by "
            "itself about images that never held one. A dataset with background images of its own, as HRSID, does not have "
            "this flaw."
        )
    )

# %% [markdown]
# (ssdd-in-two-ways)=
# ## SSDD, its targets removed in two ways
#
# The paper removes SSDD's targets "in the same fashion" as MSTAR's: by k-means, which keeps the largest bright component
# of an image and leaves the other ships in the *normal* images. Its companion benchmark uses SSDD's own masks. Same
# images, same splits, same seeds:

# %% tags=["hide-input"]
if "ssdd_kmeans" not in set(scores["dataset"]):
    display(absent("SSDD prepared by k-means", "`make book PROFILE=paper` with the dataset `ssdd_kmeans`"))
else:
    rows = []
    for label, where in NAMED.items():
        for level in ("image", "pixel"):
            both = pd.concat(
                [by_seed(scores, name, level, backbone, **where) for name in ("ssdd", "ssdd_kmeans")], axis=1
            ).dropna()
            if both.empty:
                continue
            both.columns = ["masks", "kmeans"]
            model = "padim" if label == "PaDiM" else "padim_ace"
            cell = paper[
                (paper["table"] == 1)
                & (paper["dataset"] == "ssdd")
                & (paper["model"] == model)
                & (paper["level"] == level)
            ]
            told = label in ("PaDiM", "PaDiM-ACE, published code") and len(cell)
            difference = both["kmeans"] - both["masks"]
            rows.append(
                {
                    "detector": label,
                    "level": level,
                    "masks": both["masks"].mean(),
                    "masks_std": both["masks"].std(),
                    "kmeans": both["kmeans"].mean(),
                    "kmeans_std": both["kmeans"].std(),
                    "difference": difference.mean(),
                    "difference_std": difference.std(),
                    "paper": cell["mean"].iloc[0] if told else np.nan,
                    "paper_std": cell["std"].iloc[0] if told else np.nan,
                }
            )
    frame = pd.DataFrame(rows)
    body = [
        [
            word(row.detector),
            word(row.level),
            Cell(with_std(row.masks, row.masks_std, ".1f"), row.masks),
            Cell(with_std(row.kmeans, row.kmeans_std, ".1f"), row.kmeans),
            Cell(with_std(row.difference, row.difference_std), row.difference),
            Cell(
                with_std(row.paper, row.paper_std, ".2f") if pd.notna(row.paper) else "–",
                row.paper if pd.notna(row.paper) else -1,
            ),
        ]
        for row in frame.itertuples()
    ]
    heads = ["Detector", "Level", "By masks", "By k-means", "Difference", "Paper"]
    caption = "SSDD with its targets removed by its masks and by k-means: AUROC in %, difference in points (paired)."
    draw(heads, body, caption, frame, "ssdd_removal")
    row = frame[(frame["detector"] == "PaDiM") & (frame["level"] == "image")]
    if len(row):
        row = row.iloc[0]
        display(
            Markdown(
                f"PaDiM's image AUROC on SSDD is {row['masks']:.1f} % by masks and {row['kmeans']:.1f} % by k-means, a "
                f"difference of {with_std(row['difference'], row['difference_std'])} points; the paper has {row['paper']:.2f} %. "
                "Ships that are left in the training normals are background to the detector, and in the test normals they "
                "are targets that count as false alarms."
            )
        )

# %% [markdown]
# ## D10: clamped scores
#
# anomalib's post-processor subtracts a threshold (of the best F1 on the validation images) from a score, divides by the
# range of the validation scores, adds 0.5 and *clamps to [0, 1]*; its evaluator then computes AUROC. Test scores outside
# the range become equal, and a tied pair counts half. All other numbers in this book are of raw scores.

# %% tags=["hide-input"]
clamp = measured["clamp"]
if clamp is None:
    display(absent("The effect of the clamp", "run `notebooks/image_scores.py` on the scored datasets"))
else:
    clamp["change"] = 100 * (clamp["clamped"] - clamp["raw"])
    clamp = clamp[clamp["backbone"] == backbone]
    keys = ["dataset", "detector", "covariance", "aggregation", "signature", "convention"]
    summary = (
        clamp.groupby(keys, sort=False)
        .agg(
            raw=("raw", "mean"),
            clamped=("clamped", "mean"),
            change=("change", "mean"),
            tied=("tied", "mean"),
            most=("change", lambda values: values.loc[values.abs().idxmax()]),
        )
        .reset_index()
    )
    most = clamp.loc[clamp["change"].abs().idxmax()]
    shown = {
        (where["detector"], where["signature"], where["convention"]): label for label, where in NAMED.items()
    }
    strongest = shown.get(
        (most["detector"], most["signature"], most["convention"]), f"{most['detector']}, {most['convention']}"
    )
    display(
        Markdown(
            f"Over {len(clamp)} runs the clamp ties {100 * clamp['tied'].mean():.1f} % of the test images at 0 or 1 on "
            f"average. It changes image AUROC by at most {abs(most['change']):.2f} points ("
            f"{titles[most['dataset']]}, {strongest}, seed {most['seed']}), "
            f"and by {clamp['change'].abs().mean():.2f} points on average."
        )
    )
    body = [
        [
            word(titles[row.dataset]),
            word(shown[row.detector, row.signature, row.convention]),
            number(100 * row.raw),
            number(100 * row.clamped),
            number(row.change, "+.2f"),
            number(row.most, "+.2f"),
            number(100 * row.tied, ".1f"),
        ]
        for row in summary.itertuples()
        if row.covariance == "full" and (row.detector, row.signature, row.convention) in shown
    ]
    heads = ["Dataset", "Detector", "Raw", "Clamped", "Mean change", "Largest change", "Tied, %"]
    caption = "Image AUROC in % from raw and from clamped scores, mean over the seeds; changes in points. The CSV has all detectors."
    draw(heads, body, caption, clamp, "clamp")

# %% [markdown]
# ## Score histograms
#
# The image scores of the test images, over all seeds. Where the two histograms overlap the detector can't tell the
# images apart. PaDiM's distance has no upper bound, ACE's cosine lies in [−1, 1].

# %% tags=["hide-input"]
histograms = measured["histograms"]
if histograms is None:
    display(absent("The histograms", "run `notebooks/image_scores.py` on the scored datasets"))
else:
    histograms = histograms[(histograms["backbone"] == backbone) & histograms["dataset"].isin(titles)]
    columns = {
        ("padim", "", ""): "PaDiM",
        ("ace", "mean", "published"): "ACE, published",
        ("ace", "mean", "equation"): "ACE, equation (1)",
        ("ace", "mean", "centred"): "ACE, centred",
        ("ace", "masked", "centred"): "ACE, target pixels",
    }
    figure, alt = drawn.histogram_figure(histograms, columns, titles)
    display(
        show(figure, alt, "Image scores of normal and anomalous test images (each histogram sums to one).")
    )

# %% [markdown]
# ## Where the numbers come from

# %% tags=["remove-input"]
HTML(html_tables.provenance_html(folder))
