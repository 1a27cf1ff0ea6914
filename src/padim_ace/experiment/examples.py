"""Example maps of a run, for the figures that show images."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from data_prep.files import write_atomic
from padim_ace.detect.detector import Detector
from padim_ace.experiment.experiment import Experiment


def write_examples(
    experiment: Experiment, shown: Mapping[str, Detector], order_by: str, path: Path, count: int = 6
) -> None:
    """Maps of a few test images of the first draw as ``.npz``; written whole or not at all.

    The anomalous test images are ordered by an image score, and ``count`` are taken at equal steps from the
    lowest to the highest: failures are among them, and nobody chose. Thresholds are of the best pixel F1 on
    its validation images, or, where there are no masks, the highest score of a normal one. ``shown``
    has the detectors by the names that their arrays end in; ``order_by`` is one of these names.
    """
    run, dataset = experiment.runs[0], experiment.dataset
    numbers = {key: experiment.detectors.index(detector) for key, detector in shown.items()}
    test = np.flatnonzero((run.roles == "test") & dataset.anomalous)
    ordered = test[np.argsort(experiment.tally.image[0, numbers[order_by], test], kind="stable")]
    chosen = ordered[np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)]
    size = experiment.settings.image_size
    images = torch.stack([dataset.image(i, size) for i in chosen.tolist()])
    maps = dict(
        zip(shown, experiment.maps(images, run, [*shown.values()]).float().cpu().numpy(), strict=True)
    )
    arrays = {
        "image": (images[:, 0] * 255).round().byte().numpy(),
        "mask": np.zeros((len(chosen), *size), bool),
        "names": dataset.manifest["path"].iloc[chosen].to_numpy(dtype=str),
    }
    if dataset.has_masks:
        arrays["mask"] = np.stack([dataset.mask(i, size).numpy() for i in chosen.tolist()])
    normal = (run.roles == "validation") & ~dataset.anomalous
    for key, number in numbers.items():
        arrays[f"heat_{key}"] = maps[key]
        threshold = experiment.tally.image[0, number, normal].max()
        if dataset.has_masks:
            threshold = experiment.tally.pixel[0, number, "validation", "pixel"].best_threshold()
        arrays[f"threshold_{key}"] = np.array(threshold)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_atomic(path, content.getvalue())
