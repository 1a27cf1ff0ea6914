from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from padim_ace.experiment.clamp import clamp_frame, clamped
from padim_ace.experiment.protocols import draws
from padim_ace.experiment.tally import Tally
from padim_ace.paper.detectors import READINGS, RECOMMENDED

DETECTORS = [RECOMMENDED, *READINGS]


@pytest.fixture
def tally():
    """Random scores of 80 images, half of them anomalous; of ours only PaDiM judged validation images."""
    generator = np.random.default_rng(0)
    anomalous = np.repeat([False, True], 40)
    drawn = draws(["scenes", "paper"], [3, 5])
    roles = np.stack([generator.permutation(["test", "validation", "train", "test"] * 20) for _ in drawn])
    scores = generator.normal(size=(4, len(DETECTORS), 80)) + anomalous
    for of_draw, role in zip(scores, roles, strict=True):
        of_draw[:, role == "train"] = np.nan
        of_draw[2:, role == "validation"] = np.nan
    tally = Tally.__new__(Tally)
    tally.draws, tally.roles, tally._image = drawn, roles, torch.from_numpy(scores)
    tally.dataset = SimpleNamespace(anomalous=anomalous)
    return tally


def test_scores_outside_the_validation_range_tie():
    validation = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    labels = np.array([False, False, True, True])
    found = clamped(validation, labels, np.array([-9.0, -8.0, 2.5, 8.0, 9.0], np.float32))
    threshold = 2.0  # the best F1: everything at or above is anomalous
    np.testing.assert_allclose(found, [0, 0, (2.5 - threshold) / 3 + 0.5, 1, 1], atol=1e-6)


def test_the_clamp_changes_auroc_by_ties_alone(tally):
    frame = clamp_frame(tally, DETECTORS, READINGS, dataset="ssdd", backbone="resnet18")
    assert frame["detector"].unique().tolist() == ["padim"] and frame["seed"].tolist() == [3, 5]
    assert set(frame["protocol"]) == {"paper"} and set(frame["dataset"]) == {"ssdd"}
    anomalous = tally.dataset.anomalous
    for row, scores, roles in zip(frame.itertuples(), tally.image[2:, 1], tally.roles[2:], strict=True):
        known, test = roles == "validation", roles == "test"
        after = clamped(scores[known], anomalous[known], scores[test])
        assert row.raw == pytest.approx(roc_auc_score(anomalous[test], scores[test]))
        assert row.clamped == pytest.approx(roc_auc_score(anomalous[test], after))
        assert row.tied == pytest.approx(np.isin(after, (0, 1)).mean())
        assert (np.diff(after[np.argsort(scores[test])]) >= 0).all()
