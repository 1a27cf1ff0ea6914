# %% [markdown]
# # Score
#
# :::{admonition} This notebook
# :class: dropdown note
# Reads a prepared dataset; writes `scores.csv`, the tables beside it, `provenance.json`, `seeds.json` and `maps.npz` to the
# folder `out`. Needs the backbone's weights. On one core it takes about half a minute for a demo dataset with 3
# seeds, 28 minutes for the 10,342 images of MSTAR with 10.
# :::
#
# One pass over the normal images fits every background, one over the anomalous images that are not held out finds every
# signature, one over the held-out images scores every detector, for all seeds under both protocols together.

# %% tags=["parameters"]
dataset = "demo_sea"
backbone = "tf_efficientnet_lite0"
profile = "demo"
prepared = "build/demo/prepared/demo_sea"
out = "build/demo/score/demo_sea-tf_efficientnet_lite0"
seeds = [0, 1, 2]
image_size = 256
batch_size = 64
device = "cpu"
threads = 2
precision = "float32"

# %% tags=["hide-input"]
import time
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown

from padim_ace.detect.backbones import load_backbone
from padim_ace.experiment import results
from padim_ace.experiment.clamp import clamp_frame
from padim_ace.experiment.classes import confusion
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Experiment, Settings, write_examples
from padim_ace.experiment.protocols import ARMS
from padim_ace.experiment.provenance import provenance
from padim_ace.paper.detectors import DETECTORS, EXAMPLES, PADIM_ACE, READINGS, VALIDATED, without_masks
from padim_ace.paper.published_code import CONVENTIONS
from padim_ace.report import html_tables

torch.set_num_threads(threads)
start = time.perf_counter()
folder = Path(out)
images = PreparedDataset.open(Path(prepared))
size = {"image_size": (image_size, image_size), "batch_size": batch_size}
settings = Settings(tuple(seeds), **size, precision=precision, device=device, workers=threads)
network = load_backbone(backbone, image_size=settings.image_size)
trained = network.weights.source != "random"  # else only the paper's detectors are compared
judges = DETECTORS if trained else {"paper": READINGS}
detectors = {
    protocol: judged if "pixel" in images.levels else without_masks(judged)
    for protocol, judged in judges.items()
    if protocol not in ARMS or images.has_twins
}
validated, examples = (VALIDATED, EXAMPLES) if trained else (READINGS, {"ace": PADIM_ACE})
experiment = Experiment(images, network, detectors, settings, validated=validated, conventions=CONVENTIONS)
grids = ", ".join(f"{rows} × {columns}" for rows, columns in experiment.embedder.sizes)
Markdown(
    f"{len(images)} images, {len(experiment.detectors)} detectors, {len(seeds)} seeds; backbone {backbone}, weights "
    f"`{network.weights.name}` ({network.weights.source}); patch grids {grids}."
)

# %% [markdown]
# The roles that each seed draws under each protocol, and how many of the features it keeps come from each stage (coarse to
# fine). `apart` and `twins` measure what the paper's protocol leaks.

# %% tags=["hide-input"]
drawn = [
    {
        "Protocol": run.draw.protocol,
        "Seed": run.draw.seed,
        **pd.Series(run.roles[run.roles != ""]).value_counts(),
    }
    | {"features by stage": ", ".join(str(len(kept)) for kept in run.subset.stages)}
    for run in experiment.runs
]
html_tables.table(pd.DataFrame(drawn), "Images by role, and features by stage.", f"seeds_{dataset}")

# %% tags=["hide-input", "hide-output"]
experiment.run(folder)

# %% tags=["hide-input"]
names = [{**d.row(), "images": d.images or ""} for d in experiment.detectors]
frame = experiment.tally.frame(names, dataset=dataset, backbone=backbone)
validation = experiment.tally.frame(names, "validation", dataset=dataset, backbone=backbone)
validation = validation[validation["protocol"] == "scenes"].drop(columns="images")
few = frame[frame["images"] != ""]
frame = frame[frame["images"] == ""].drop(columns="images")
write_examples(experiment, examples, [*examples][-1], folder / "maps.npz")
results.write_json(experiment.record(), folder / "seeds.json")
inputs = {"manifest": images.root / "manifest.csv"}
if network.weights.path is not None:
    inputs["weights"] = network.weights.path
parameters = {"dataset": dataset, "backbone": backbone, "seeds": seeds, "features": settings.features}
parameters |= {"image_size": image_size, "batch_size": batch_size, "precision": precision, "threads": threads}
parameters |= {
    "weights": f"{network.spec.timm_name} from {network.weights.source}",
    "preparation": images.preparation["parameters"],
    "images": {"raw": images.preparation.get("raw", {}).get("items"), "prepared": len(images)},
}
seconds = time.perf_counter() - start
origin = provenance(parameters=parameters, inputs=inputs, device=device, seconds=seconds)
results.write_json(origin, folder / "provenance.json")
tables = {}
if trained:
    tables["supervision"] = few
    tables["validation"] = validation
    with torch.inference_mode():
        tables["classes"] = confusion(experiment.images, dataset)
    where = {"dataset": dataset, "backbone": backbone}
    tables["clamp"] = clamp_frame(experiment.tally, experiment.detectors, READINGS, **where)
for table, rows in tables.items():
    results.write_csv(rows, folder / f"{table}.csv")
results.write_scores(frame, folder / "scores.csv")
experiment.forget(folder)

# %% [markdown]
# AUROC on the test images in %, mean over the seeds.

# %% tags=["hide-input"]
columns = ["protocol", *results.NAMES]
auroc = frame[frame["metric"] == "auroc"].assign(value=lambda rows: 100 * rows["value"])
shown = auroc.pivot_table(index=columns, columns="level", values="value", sort=False).reset_index()
caption = f"{dataset}, {backbone}: AUROC in %."
html_tables.table(shown.rename(columns=str.capitalize), caption, f"auroc_{dataset}", form=".1f")

# %% tags=["remove-input"]
html_tables.sources([origin])
