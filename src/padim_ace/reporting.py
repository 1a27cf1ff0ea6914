"""What an experiment reports: test metrics as tidy rows, choices made on validation images, example maps."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from padim_ace.detectors import CANDIDATES, PADIM, PADIM_ACE
from padim_ace.experiment import Experiment, Scores
from padim_ace.metrics import image_metrics


def chosen_patches(experiment: Experiment, scores: Scores) -> pd.DataFrame:
    """How many patches to mine, chosen on the validation images: the most among those with the best image
    AUROC.

    One row per seed and candidate: ``seed``, ``patches``, ``validation_auroc``, ``chosen``.
    """
    rows = []
    for s, seed in enumerate(experiment.seeds):
        held_out = seed.roles == "validation"
        labels = experiment.dataset.anomalous[held_out]
        found = {
            detector.patches: image_metrics(scores.image[s, d, held_out], labels)["auroc"]
            for d, detector in enumerate(experiment.detectors)
            if detector in CANDIDATES
        }
        best = max(found, key=lambda patches: (found[patches], patches))
        for patches, value in found.items():
            rows.append(
                {"seed": seed.seed, "patches": patches, "validation_auroc": value, "chosen": patches == best}
            )
    return pd.DataFrame(rows)


def metrics_frame(experiment: Experiment, scores: Scores, dataset: str, backbone: str) -> pd.DataFrame:
    """The test metrics of every detector, in the columns of ``scores.csv``."""
    rows = []
    anomalous = experiment.dataset.anomalous
    for s, seed in enumerate(experiment.seeds):
        test = seed.roles == "test"
        for d, detector in enumerate(experiment.detectors):
            levels = {"image": image_metrics(scores.image[s, d, test], anomalous[test])}
            if (s, d, "test") in scores.pixel:
                levels["pixel"] = scores.pixel[s, d, "test"].metrics()
            for level, metrics in levels.items():
                for metric, value in metrics.items():
                    where = {"dataset": dataset, "backbone": backbone, "seed": seed.seed, "level": level}
                    rows.append({**where, **detector.row(), "metric": metric, "value": value})
    return pd.DataFrame(rows)


def split_frame(frame: pd.DataFrame, chosen: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of ``scores.csv``, where a mined signature is the chosen one, and those of signatures of few
    images.

    The latter have ``images`` beside the other columns; their signature is ``masked`` or ``mined``.
    """
    parts = frame["signature"].str.extract(r"^(\w*)(?::(?P<patches>\d+))?(?:/(?P<images>\d+))?$")
    few = parts["images"].notna()
    best = chosen[chosen["chosen"]].set_index("seed")["patches"]
    passed_over = parts["patches"].notna() & (parts["patches"] != frame["seed"].map(best).astype(str))
    named = frame.assign(signature=parts[0])
    return named[~few & ~passed_over], named[few].assign(images=parts["images"][few].astype(int))


def write_examples(experiment: Experiment, scores: Scores, path: Path, count: int = 6) -> None:
    """Maps of a few test images of the first seed, for the localisation figure; written whole or not at all.

    The anomalous test images are ordered by PaDiM-ACE's image score, and ``count`` are taken at equal steps
    from the lowest to the highest: failures are among them, and nobody chose.
    """
    seed = experiment.seeds[0]
    patches = chosen_patches(experiment, scores).query("chosen")["patches"].iloc[0]
    mined = next(detector for detector in CANDIDATES if detector.patches == patches)
    keys = {"padim": PADIM, "ace": PADIM_ACE, "mined": mined}
    numbers = {key: experiment.detectors.index(detector) for key, detector in keys.items()}
    test = np.flatnonzero((seed.roles == "test") & experiment.dataset.anomalous)
    ordered = test[np.argsort(scores.image[0, numbers["ace"], test], kind="stable")]
    chosen = ordered[np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)]
    size = experiment.settings.image_size
    maps = experiment.maps(chosen, seed).float().cpu().numpy()
    arrays = {
        "image": np.stack(
            [(experiment.dataset.image(i, size)[0] * 255).round().byte().numpy() for i in chosen.tolist()]
        ),
        "mask": np.stack([experiment.dataset.mask(i, size).numpy() for i in chosen.tolist()]),
        "names": experiment.dataset.manifest["path"].iloc[chosen].to_numpy(dtype=str),
    }
    for key, number in numbers.items():
        arrays[f"heat_{key}"] = maps[number]
        arrays[f"threshold_{key}"] = np.array(scores.pixel[0, number, "validation"].best_threshold())
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)
