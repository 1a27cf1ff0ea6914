import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from data_prep.prepared import COLUMNS
from padim_ace.experiment import fill_visibility as fv
from padim_ace.experiment.dataset import PreparedDataset


def _texture(generator, shape):
    """Correlated grey levels."""
    smooth = gaussian_filter(generator.normal(size=shape), 1.2)
    return (128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def _pairs(count=6, correlated=False):
    generator = np.random.default_rng(0)
    for _ in range(count):
        background = _texture(generator, (90, 100))
        filled = np.zeros((90, 100), bool)
        filled[30:65, 35:70] = True
        normal = background.copy()
        other = _texture(generator, (90, 100))
        normal[filled] = other[filled] if correlated else generator.choice(background[~filled], filled.sum())
        anomalous = background.copy()
        anomalous[45:50, 50:55] = 255
        yield anomalous, normal


def test_window_correlation_is_numpys_corrcoef_of_each_windows_neighbours():
    image = _texture(np.random.default_rng(1), (20, 24))
    found = fv.window_correlation(image, 5)
    for row in range(20):
        for column in range(24):
            if not (2 <= row <= 20 - 4 and 2 <= column <= 24 - 4):
                assert np.isnan(found[row, column])
                continue
            window = image[row - 2 : row + 4, column - 2 : column + 4].astype(float)
            here = window[:-1, :-1].ravel()
            expected = [
                np.corrcoef(here, window[:-1, 1:].ravel())[0, 1],
                np.corrcoef(here, window[1:, :-1].ravel())[0, 1],
            ]
            assert found[row, column] == pytest.approx(np.mean(expected), abs=1e-9)


def test_a_constant_window_is_no_fill_and_a_small_image_is_refused():
    found = fv.window_correlation(np.full((20, 20), 7, np.uint8), 5)
    assert np.nanmin(found) == 1
    with pytest.raises(ValueError, match="found 20"):
        fv.window_correlation(np.zeros((20, 20), np.uint8), 20)


def test_independent_fill_is_seen_and_correlated_fill_is_not():
    seen = fv.correlation_measures(_pairs())
    assert seen["images"] == 6
    assert seen["window_auroc"] > 0.99 and seen["image_auroc"] == 1
    assert abs(seen["correlation_fill"]) < 0.1 < 0.5 < seen["correlation_background"]
    unseen = fv.correlation_measures(_pairs(correlated=True))
    assert 0.3 < unseen["window_auroc"] < 0.7
    assert unseen["correlation_fill"] > 0.5


def test_window_auroc_is_scikit_learns():
    scores, labels = [], []
    for anomalous, normal in _pairs():
        correlation, filled = fv.window_correlation(normal), fv.filled_region(anomalous, normal)
        for row in range(8, 90 - 8):
            for column in range(8, 100 - 8):
                around = filled[row - 8 : row + 9, column - 8 : column + 9]
                if around.all() or not around.any():
                    scores.append(-correlation[row, column])
                    labels.append(around.all())
    expected = roc_auc_score(labels, scores)
    assert fv.correlation_measures(_pairs())["window_auroc"] == pytest.approx(expected, abs=1e-4)


def test_without_pairs_nothing_is_measured():
    assert fv.correlation_measures(iter([])) == {}


@pytest.fixture
def dataset(tmp_path):
    rows = []
    for folder in ("normal", "anomalous"):
        (tmp_path / folder).mkdir()
    for number, pair in enumerate(_pairs(20)):
        for label, image in zip(("anomalous", "normal"), pair, strict=True):
            cv2.imwrite(str(tmp_path / f"{label}/{number}.png"), image)
            rows.append([f"{label}/{number}.png", "train", label, "", "", "texture", number, "", 100, 90, ""])
    pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "manifest.csv", index=False)
    return PreparedDataset.open(tmp_path)


def test_a_dataset_is_measured_by_its_pairs(dataset):
    found = list(fv.pairs(dataset))
    assert len(found) == 20
    filled = fv.filled_region(*found[0])
    assert filled[31:64, 36:69].all() and filled.sum() <= 35 * 35
    frame = fv.fill_frame(dataset, "texture")
    expected = fv.correlation_measures(_pairs(20))
    assert frame["measure"].tolist() == list(expected)
    assert frame["value"].tolist() == pytest.approx(list(expected.values()))
    normals = PreparedDataset(dataset.root, dataset.manifest[~dataset.anomalous])
    assert fv.fill_frame(normals, "texture").empty
