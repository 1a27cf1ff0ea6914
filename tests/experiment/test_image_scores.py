import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from padim_ace.experiment import image_scores
from padim_ace.paper.detectors import PADIM, READINGS, RECOMMENDED

DETECTORS = [*READINGS, RECOMMENDED]


@pytest.fixture
def run():
    """Random scores of 80 images, half of them anomalous; only PaDiM was asked about validation images."""
    generator = np.random.default_rng(0)
    anomalous = np.repeat([False, True], 40)
    roles = np.stack([generator.permutation(["test", "validation", "train", "test"] * 20) for _ in range(2)])
    scores = generator.normal(size=(2, len(DETECTORS), 80)) + anomalous
    for of_seed, role in zip(scores, roles, strict=True):
        of_seed[:, role == "train"] = np.nan
        of_seed[1:, role == "validation"] = np.nan
    return image_scores.ImageScores(DETECTORS, [3, 5], scores, roles, anomalous, "ssdd", "resnet18", "paper")


def test_scores_outside_the_validation_range_tie():
    validation = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    labels = np.array([False, False, True, True])
    found = image_scores.clamped(validation, labels, np.array([-9.0, -8.0, 2.5, 8.0, 9.0], np.float32))
    threshold = 2.0  # the best F1: everything at or above is anomalous
    np.testing.assert_allclose(found, [0, 0, (2.5 - threshold) / 3 + 0.5, 1, 1], atol=1e-6)


def test_the_clamp_changes_auroc_by_ties_alone(run):
    frame = image_scores.clamp_frame(run, READINGS)
    assert frame["detector"].unique().tolist() == ["padim"] and frame["seed"].tolist() == [3, 5]
    for row, (test, truth), (validation, labels) in zip(
        frame.itertuples(),
        run.of(PADIM, "test"),
        run.of(PADIM, "validation"),
        strict=True,
    ):
        after = image_scores.clamped(validation, labels, test)
        assert row.raw == pytest.approx(roc_auc_score(truth, test))
        assert row.clamped == pytest.approx(roc_auc_score(truth, after))
        assert row.tied == pytest.approx(np.isin(after, (0, 1)).mean())
        order = np.argsort(test)
        assert (np.diff(after[order]) >= 0).all()


def test_histograms_count_every_test_image_once_per_seed(run):
    frame = image_scores.histogram_frame(run, READINGS)
    assert len(frame) == len(READINGS) * 2 * image_scores.BINS
    expected = sum((roles == "test").sum() for roles in run.roles)
    counts = frame.groupby(["detector", "signature", "convention"])["count"].sum()
    assert (counts == expected).all() and len(counts) == len(READINGS)
