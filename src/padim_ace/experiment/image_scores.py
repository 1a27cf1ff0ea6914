"""What is kept of a run's image scores: their histograms, and what anomalib's clamp does to AUROC (D10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Shaped

from padim_ace.detect.detector import Detector
from padim_ace.experiment.experiment import Experiment
from padim_ace.experiment.metrics import image_metrics

BINS = 40


@dataclass
class ImageScores:
    """The image scores of a run under one protocol, with all it takes to judge them."""

    detectors: list[Detector]
    seeds: list[int]
    scores: Float[np.ndarray, "seed detector image"]
    """NaN where a detector was not asked about an image."""
    roles: Shaped[np.ndarray, "seed image"]
    """Each image's role, as words."""
    anomalous: Bool[np.ndarray, " image"]
    dataset: str
    backbone: str
    protocol: str

    @classmethod
    def of_run(cls, experiment: Experiment, dataset: str, backbone: str, protocol: str) -> ImageScores:
        """From a finished run on a dataset of this name, with a backbone of this name."""
        tally = experiment.tally
        chosen = [number for number, draw in enumerate(tally.draws) if draw.protocol == protocol]
        runs = [experiment.runs[number] for number in chosen]
        judges = experiment.judged(runs[0])
        scores, roles = tally.image[np.ix_(chosen, judges)], tally.roles[chosen].astype(str)
        detectors, seeds = [experiment.detectors[n] for n in judges], [run.draw.seed for run in runs]
        return cls(detectors, seeds, scores, roles, experiment.dataset.anomalous, dataset, backbone, protocol)

    def asked(self, shown: Sequence[Detector]) -> Iterator[tuple[Detector, dict[str, Any]]]:
        """Those detectors of ``shown`` that were run, and the columns that say whose a row is."""
        for detector in shown:
            if detector in self.detectors:
                run = {"dataset": self.dataset, "backbone": self.backbone, "protocol": self.protocol}
                yield detector, {**run, **detector.row()}

    def of(self, detector: Detector, role: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each seed: a detector's scores of the images with a role, and which of them are anomalous."""
        scores = self.scores[:, self.detectors.index(detector)]
        members = self.roles == role
        return [(of_seed[m], self.anomalous[m]) for of_seed, m in zip(scores, members, strict=True)]


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


def clamp_frame(run: ImageScores, shown: Sequence[Detector]) -> pd.DataFrame:
    """Image AUROC of raw and of clamped scores, by seed, for those detectors ``shown`` that judged validation
    images too.

    Columns: dataset, backbone, protocol, the detector's, seed, ``raw``, ``clamped``, ``tied`` (the part of
    the test images that the clamp sets to 0 or 1).
    """
    rows = []
    for detector, where in run.asked(shown):
        known, judged = run.of(detector, "validation"), run.of(detector, "test")
        for seed, (validation, labels), (test, truth) in zip(run.seeds, known, judged, strict=True):
            if np.isnan(validation).any():
                continue
            after = clamped(validation, labels, test)
            raw, changed = (image_metrics(scores, truth)["auroc"] for scores in (test, after))
            tied = np.isin(after, (0, 1)).mean()
            rows.append({**where, "seed": seed, "raw": raw, "clamped": changed, "tied": tied})
    return pd.DataFrame(rows)


def histogram_frame(run: ImageScores, shown: Sequence[Detector]) -> pd.DataFrame:
    """Histograms of the test images' scores over all seeds, of the detectors ``shown``.

    Columns: dataset, backbone, protocol, the detector's, ``label``, ``low``, ``high``, ``count``. The bins of
    a detector are of equal width, from its lowest score to its highest.
    """
    rows = []
    for detector, where in run.asked(shown):
        found = run.of(detector, "test")
        scores, labels = (np.concatenate(part) for part in zip(*found, strict=True))
        edges = np.linspace(scores.min(), scores.max(), BINS + 1)
        for label, chosen in (("normal", ~labels), ("anomalous", labels)):
            counts, _ = np.histogram(scores[chosen], edges)
            for low, high, count in zip(edges, edges[1:], counts, strict=False):
                rows.append({**where, "label": label, "low": low, "high": high, "count": int(count)})
    return pd.DataFrame(rows)
