"""What anomalib's clamp does to image AUROC (D10)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from padim_ace.detect.detector import Detector
from padim_ace.experiment.metrics import image_metrics
from padim_ace.experiment.tally import Tally


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
    tally: Tally, detectors: Sequence[Detector], shown: Sequence[Detector], **where: str
) -> pd.DataFrame:
    """Image AUROC of raw and of clamped scores under the paper's protocol, by seed: rows of ``clamp.csv``.

    Columns: ``where``, protocol, the detector's, seed, ``raw``, ``clamped``, ``tied`` (the part of the test
    images that the clamp sets to 0 or 1). ``detectors`` are all of the tally's, ``shown`` those that judged
    its validation images too, or have no rows.
    """
    rows, image, anomalous = [], tally.image, tally.dataset.anomalous
    for detector in shown:
        for draw, scores, roles in zip(
            tally.draws, image[:, detectors.index(detector)], tally.roles, strict=True
        ):
            known, judged = roles == "validation", roles == "test"
            if draw.protocol != "paper" or np.isnan(scores[known]).any():
                continue
            after = clamped(scores[known], anomalous[known], scores[judged])
            raw, changed = (image_metrics(s, anomalous[judged])["auroc"] for s in (scores[judged], after))
            row = {**where, "protocol": draw.protocol, **detector.row(), "seed": draw.seed}
            rows.append({**row, "raw": raw, "clamped": changed, "tied": np.isin(after, (0, 1)).mean()})
    return pd.DataFrame(rows)
