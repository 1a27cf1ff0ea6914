"""What an experiment reports: test metrics as tidy rows, choices made on validation images, example maps."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from padim_ace.experiment.detectors import CANDIDATES, PADIM, PADIM_ACE, PADIM_GLRT
from padim_ace.experiment.experiment import Experiment
from padim_ace.experiment.metrics import image_metrics
from padim_ace.experiment.tally import Scores


def chosen_numbers(experiment: Experiment, scores: Scores) -> pd.DataFrame:
    """How many patches to mine and how many dimensions to keep, chosen on the validation images: the best
    image AUROC, the larger number among equals.

    One row per seed and candidate: ``seed``, ``signature``, ``number``, ``validation_auroc``, ``chosen``.
    """
    rows = []
    for s, seed in enumerate(experiment.seeds):
        held_out = seed.roles == "validation"
        labels = experiment.dataset.anomalous[held_out]
        for d, detector in enumerate(experiment.detectors):
            if detector in CANDIDATES:
                auroc = image_metrics(scores.image[s, d, held_out], labels)["auroc"]
                rows.append((seed.seed, *detector.signature.split(":"), auroc))
    frame = pd.DataFrame(rows, columns=["seed", "signature", "number", "validation_auroc"])
    frame = frame.astype({"number": int})
    order = frame.sort_values(["validation_auroc", "number"])
    best = order.groupby(["seed", "signature"]).tail(1).index
    return frame.assign(chosen=frame.index.isin(best))


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
    """The rows of ``scores.csv``, where the numbers of a signature are the chosen ones, and those of
    signatures of few images.

    The latter have ``images`` beside the other columns; all signatures lose their numbers.
    """
    parts = frame["signature"].str.extract(r"^(\w*)(?::(?P<number>\d+))?(?:/(?P<images>\d+))?$")
    few = parts["images"].notna()
    best = {(r.seed, r.signature): str(r.number) for r in chosen[chosen["chosen"]].itertuples()}
    wanted = [best.get(key) for key in zip(frame["seed"], parts[0], strict=True)]
    passed_over = parts["number"].notna() & (parts["number"] != pd.Series(wanted, frame.index))
    named = frame.assign(signature=parts[0])
    return named[~few & ~passed_over], named[few].assign(images=parts["images"][few].astype(int))


def write_examples(experiment: Experiment, scores: Scores, path: Path, count: int = 6) -> None:
    """Maps of a few test images of the first seed, for the localisation figure; written whole or not at all.

    The anomalous test images are ordered by PaDiM-ACE's image score, and ``count`` are taken at equal steps
    from the lowest to the highest: failures are among them, and nobody chose.
    """
    seed = experiment.seeds[0]
    keys = {"padim": PADIM, "ace": PADIM_ACE, "subspace": PADIM_GLRT}
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
