"""What is kept of a run's image scores: their histograms, and what anomalib's clamp does to AUROC (D10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from padim_ace.detect.detector import Detector
from padim_ace.experiment.experiment import Experiment
from padim_ace.experiment.metrics import image_metrics

BINS = 40
Scores = list[tuple[Float[np.ndarray, " image"], Bool[np.ndarray, " image"]]]


def scores_of(experiment: Experiment, detector: Detector, role: str) -> Scores:
    """For each seed: a detector's scores of the images with a role, and which of them are anomalous.

    A score is NaN where the detector was not asked about the image.
    """
    tally, number = experiment.tally, experiment.detectors.index(detector)
    members = [seed.roles == role for seed in experiment.seeds]
    anomalous = experiment.dataset.anomalous
    return [(of_seed[number, m], anomalous[m]) for of_seed, m in zip(tally.image, members, strict=True)]


def clamped(
    validation: Float[np.ndarray, " validation"],
    labels: Bool[np.ndarray, " validation"],
    test: Float[np.ndarray, " test"],
) -> Float[np.ndarray, " test"]:
    """Test scores as anomalib's evaluator sees them: through its post-processor, fitted on validation scores.

    It subtracts the threshold of the best F1, divides by the range, adds 0.5 and clamps to [0, 1].
    """
    from anomalib.data import ImageBatch, InferenceBatch
    from anomalib.post_processing import PostProcessor

    processor: Any = PostProcessor()  # its hooks are made to be called by a trainer, which they do not use
    batch = ImageBatch(
        image=torch.zeros(len(validation), 3, 1, 1),
        gt_label=torch.from_numpy(labels),
        pred_score=torch.from_numpy(validation.astype(np.float32)),
    )
    processor.on_validation_batch_end(None, None, batch)
    processor.on_validation_epoch_end(None, None)
    scores = InferenceBatch(pred_score=torch.from_numpy(test.astype(np.float32)))
    return processor(scores).pred_score.numpy()


def clamp_frame(
    experiment: Experiment, shown: Sequence[Detector], dataset: str, backbone: str
) -> pd.DataFrame:
    """Image AUROC of raw and of clamped scores, by seed, for those detectors ``shown`` that judged validation
    images too.

    Columns: dataset, backbone, the detector's, seed, ``raw``, ``clamped``, ``tied`` (the part of the test
    images that the clamp sets to 0 or 1).
    """
    rows = []
    for detector, where in _run(experiment, shown, dataset, backbone):
        known, judged = (scores_of(experiment, detector, role) for role in ("validation", "test"))
        for seed, (validation, labels), (test, truth) in zip(experiment.seeds, known, judged, strict=True):
            if np.isnan(validation).any():
                continue
            after = clamped(validation, labels, test)
            raw, changed = (image_metrics(scores, truth)["auroc"] for scores in (test, after))
            tied = np.isin(after, (0, 1)).mean()
            rows.append({**where, "seed": seed.seed, "raw": raw, "clamped": changed, "tied": tied})
    return pd.DataFrame(rows)


def histogram_frame(
    experiment: Experiment, shown: Sequence[Detector], dataset: str, backbone: str
) -> pd.DataFrame:
    """Histograms of the test images' scores over all seeds, of the detectors ``shown``.

    Columns: dataset, backbone, the detector's, ``label``, ``low``, ``high``, ``count``. The bins of a
    detector are of equal width, from its lowest score to its highest.
    """
    rows = []
    for detector, where in _run(experiment, shown, dataset, backbone):
        of_seeds = scores_of(experiment, detector, "test")
        scores, labels = (np.concatenate(part) for part in zip(*of_seeds, strict=True))
        edges = np.linspace(scores.min(), scores.max(), BINS + 1)
        for label, chosen in (("normal", ~labels), ("anomalous", labels)):
            counts, _ = np.histogram(scores[chosen], edges)
            for low, high, count in zip(edges, edges[1:], counts, strict=False):
                rows.append({**where, "label": label, "low": low, "high": high, "count": int(count)})
    return pd.DataFrame(rows)


def _run(
    experiment: Experiment, shown: Sequence[Detector], dataset: str, backbone: str
) -> Iterator[tuple[Detector, dict[str, Any]]]:
    """Those detectors of ``shown`` that were run, and the columns that say whose a row is."""
    for detector in shown:
        if detector in experiment.detectors:
            yield detector, {"dataset": dataset, "backbone": backbone, **detector.row()}
