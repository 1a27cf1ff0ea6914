import numpy as np
import oracles
import pytest
import torch
from anomalib.metrics.aupro import _AUPRO
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from torchmetrics.functional.classification import binary_auroc

from padim_ace.experiment import metrics
from padim_ace.experiment.metrics import Histogram, Truth, count, image_metrics


def maps_and_masks(images=12, size=128, seed=0):
    """Smooth maps that are higher, but not always, inside blobs."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((images, size, size), bool)
    for mask in masks[::2]:
        for _ in range(generator.integers(1, 5)):
            r, c = generator.integers(0, size - 20, 2)
            h, w = generator.integers(2, 20, 2)
            mask[r : r + h, c : c + w] = True
    scores = generator.normal(size=masks.shape) + 1.5 * masks
    return torch.tensor(scores, dtype=torch.float32), torch.tensor(masks)


def filled(scores, masks, bounded, batch=5):
    histogram = Histogram(bounded)
    for start in range(0, len(scores), batch):
        histogram.update(scores[start : start + batch], Truth.of(masks[start : start + batch]))
    return histogram


SCALES = {
    "bounded": (True, lambda s: torch.tanh(s / 4)),
    "unbounded": (False, lambda s: 1000 * s),
    "distances": (False, lambda s: torch.exp(s)),
    "heavy tail": (False, lambda s: torch.exp(3 * s)),
    "ties": (True, lambda s: (2 * s).round() / 20),
    "unbounded ties": (False, lambda s: (2 * s).round() / 7),
}


def auroc_error(histogram):
    """Half the chance that a pair shares a bin."""
    negative, positive = histogram.negative.double(), histogram.positive.double()
    return float((negative * positive).sum() / (negative.sum() * positive.sum()) / 2)


@pytest.mark.parametrize("name", SCALES)
def test_pixel_metrics_against_libraries(name):
    bounded, transform = SCALES[name]
    scores, masks = maps_and_masks()
    scores = transform(scores)
    histogram = filled(scores, masks, bounded)
    found = histogram.metrics()
    flat, truth = scores.flatten().numpy(), masks.flatten().numpy()
    ranks = torch.tensor(rankdata(flat) / flat.size)  # torchmetrics takes scores outside [0, 1] for logits
    assert found["auroc"] == pytest.approx(float(binary_auroc(ranks, masks.flatten().long())), abs=1e-4)
    assert abs(found["auroc"] - roc_auc_score(truth, flat)) <= auroc_error(histogram) + 1e-12
    assert found["ap"] == pytest.approx(average_precision_score(truth, flat), abs=5e-4)
    precision, recall, _ = precision_recall_curve(truth, flat)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert found["f1"] == pytest.approx(f1.max(), abs=5e-4)
    metric = _AUPRO(fpr_limit=0.3)
    metric.update(scores, masks.long())
    assert found["aupro"] == pytest.approx(float(metric.compute()), abs=5e-4)
    predicted = flat >= histogram.best_threshold()
    at_best = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    assert at_best == pytest.approx(found["f1"], abs=5e-4)


@pytest.mark.parametrize("bounded", [True, False])
def test_millions_of_pixels(bounded):
    scores, masks = maps_and_masks(48, 256, seed=1)
    scores = torch.tanh(scores) if bounded else scores.exp()
    histogram = filled(scores, masks, bounded, batch=16)
    assert auroc_error(histogram) < 2e-4
    assert histogram.metrics()["auroc"] == pytest.approx(
        roc_auc_score(masks.flatten(), scores.flatten()), abs=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 1, 37.5, 1e4]), bounded=st.booleans())
def test_metrics_do_not_depend_on_the_order_or_size_of_batches(seed, scale, bounded):
    generator = np.random.default_rng(seed)
    values = generator.integers(-9, 10, (6, 4, 4)) * (0.1 if bounded else scale)
    scores, masks = torch.tensor(values, dtype=torch.float32), torch.tensor(generator.random((6, 4, 4)) < 0.3)
    masks[0, 0, 0] = True
    expected = roc_auc_score(masks.flatten(), scores.flatten())
    for batch in (1, 2, 6):
        assert filled(scores, masks, bounded, batch).metrics()["auroc"] == pytest.approx(expected)
    assert filled(scores.flip(0), masks.flip(0), bounded, 1).metrics()["auroc"] == pytest.approx(expected)


@pytest.mark.parametrize("bounded", [True, False])
def test_thresholds_are_the_lowest_scores_of_their_bins(bounded):
    edges = torch.tensor([-1.0, -0.7, -1e-3, 0.0, 1e-3, 0.3, 0.9999, 1.0])
    if not bounded:
        edges = edges * 5e3
    for value in edges:
        histogram = filled(value.view(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool), bounded)
        thresholds = histogram.thresholds()
        place = int(histogram.positive.flip(0).argmax())
        assert thresholds[place] <= float(value) + 1e-9
        assert float(value) <= thresholds[max(place - 1, 0)] or place == 0


def test_two_truths_of_the_same_pixels_are_counted_as_each_alone():
    scores, masks = maps_and_masks(6, 64)
    inner = masks & torch.roll(masks, 3, -1)
    both = [Histogram(False), Histogram(False)]
    for part in (slice(0, 2), slice(2, 6)):
        count(both, scores[part], [Truth.of(masks[part]), Truth.of(inner[part])])
    for found, truth in zip(both, (masks, inner), strict=True):
        assert found.metrics() == filled(scores, truth, False).metrics()
        assert found.metrics()["auroc"] == pytest.approx(
            roc_auc_score(truth.flatten(), scores.flatten()), abs=1e-3
        )


def test_exact_ties_count_half():
    scores = torch.tensor([[[0.3, 0.3, 0.3, 0.7]]])
    masks = torch.tensor([[[True, False, False, True]]])
    assert filled(scores, masks, True).metrics()["auroc"] == pytest.approx(0.75)


@pytest.mark.parametrize("bounded", [True, False])
def test_the_path_for_accelerators_counts_like_the_one_for_the_cpu(bounded, monkeypatch):
    scores, masks = maps_and_masks(6, 64)
    scores = torch.tanh(scores)
    expected = filled(scores, masks, bounded)
    monkeypatch.setattr(metrics, "_on_cpu", lambda key: False)
    other = filled(scores, masks, bounded)
    for name in ("positive", "negative"):
        assert torch.equal(getattr(other, name), getattr(expected, name))
    torch.testing.assert_close(other.overlap, expected.overlap)


def test_image_metrics():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=300).round(1)
    labels = generator.random(300) < 0.4
    found = image_metrics(scores, labels)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["auroc"] == pytest.approx(oracles.auroc(scores, labels))
    assert found["ap"] == pytest.approx(average_precision_score(labels, scores))


def test_one_kind_of_image_is_refused():
    with pytest.raises(ValueError, match="found 3 and 0"):
        image_metrics(np.zeros(3), np.zeros(3, bool))
    with pytest.raises(ValueError, match="found 16 and 0"):
        filled(torch.rand(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool), True).metrics()


def test_bounded_scores_a_rounding_above_1_stay_the_highest():
    """Smoothing overshoots by 2e-7; without a clamp the highest scores would fall into the lowest bin."""
    masks = torch.tensor([[[True, True, False, False]]])
    found = filled(torch.tensor([[[1 + 4e-7, 1 + 1e-3, 0.5, -1 - 4e-7]]]), masks, True).metrics()
    assert found["auroc"] == 1


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bounded, wrong):
    masks = torch.tensor([[[True, False]], [[True, False]]])
    histogram = filled(torch.tensor([[[0.5, 0.1]], [[wrong, 0.1]]]), masks, bounded, 1)
    with pytest.raises(ValueError, match="pixel metrics: expected finite scores"):
        histogram.metrics()
    with pytest.raises(ValueError, match="image metrics: expected finite scores"):
        image_metrics(np.array([0.5, wrong]), np.array([True, False]))
