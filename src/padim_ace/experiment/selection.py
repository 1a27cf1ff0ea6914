"""What is chosen on validation images, and the tables that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple

import pandas as pd

from padim_ace.detect.detector import Detector
from padim_ace.experiment.experiment import Experiment
from padim_ace.experiment.metrics import image_metrics

CHOICE = ("protocol", "seed", "signature")
"""One number is chosen for each."""
NUMBER_OF = {"mined": "patches", "subspace": "dimensions"}
"""The number that is chosen for a signature, as a field of :class:`Detector`."""


def chosen_numbers(experiment: Experiment, candidates: Sequence[Detector]) -> pd.DataFrame:
    """How many patches to mine and how many dimensions to keep, chosen on the validation images: the best
    image AUROC, the larger number among equals.

    One row per draw and candidate: ``protocol``, ``seed``, ``signature``, ``number``, ``validation_auroc``,
    ``chosen``.
    """
    rows = []
    image = experiment.tally.image
    for s, run in enumerate(experiment.runs):
        held_out = run.roles == "validation"
        labels = experiment.dataset.anomalous[held_out]
        for d in experiment.judged(run, "validation"):
            detector = experiment.detectors[d]
            if detector in candidates:
                number = getattr(detector, NUMBER_OF[detector.signature])
                auroc = image_metrics(image[s, d, held_out], labels)["auroc"]
                rows.append((*astuple(run.draw), detector.signature, number, auroc))
    frame = pd.DataFrame(rows, columns=[*CHOICE, "number", "validation_auroc"])
    order = frame.sort_values(["validation_auroc", "number"])
    best = order.groupby(list(CHOICE)).tail(1).index
    return frame.assign(chosen=frame.index.isin(best))


def scores_frames(
    experiment: Experiment,
    candidates: Sequence[Detector],
    chosen: pd.DataFrame,
    dataset: str,
    backbone: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The test metrics, as the rows of ``scores.csv`` and of ``supervision.csv``.

    Of ``candidates``, the former has those with the ``chosen`` numbers; the latter has the signatures of few
    images, with a column ``images``.
    """
    names = [{**d.row(), "number": n} for n, d in enumerate(experiment.detectors)]
    frame = experiment.tally.frame(names, dataset=dataset, backbone=backbone)
    best = {tuple(row) for row in chosen.loc[chosen["chosen"], [*CHOICE, "number"]].to_numpy()}
    kept, few = [], []
    for *draw, number in zip(frame["protocol"], frame["seed"], frame.pop("number"), strict=True):
        detector = experiment.detectors[number]
        fields = asdict(detector)
        key = (*draw, detector.signature, fields.get(NUMBER_OF.get(detector.signature, "")))
        kept.append(detector.images is None and (detector not in candidates or key in best))
        few.append(detector.images)
    images = pd.Series(few, frame.index)
    return frame[kept], frame[images.notna()].assign(images=images.dropna().astype(int))
