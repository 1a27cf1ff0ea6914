import numpy as np
import pandas as pd
from fakes.scores import rows
from sklearn.metrics import roc_auc_score

from padim_ace.detect.detector import PADIM
from padim_ace.report import deviation_figures as drawn
from padim_ace.report.figures import svg


def test_a_power_of_a_matrix_is_undone_by_its_inverse():
    covariance = drawn.simulated_features()[-1]
    half = drawn.power(covariance, 0.5)
    np.testing.assert_allclose(half @ half, covariance)
    np.testing.assert_allclose(drawn.power(covariance, -0.5) @ half, np.eye(2), atol=1e-12)


def test_whitening_figure_tells_the_auroc_of_the_cosines():
    background, target, signature, covariance = drawn.simulated_features()
    figure, alt = drawn.whitening_figure()
    for exponent in (0, -0.5, 0.5):
        matrix = drawn.power(covariance, exponent)
        points, s = np.concatenate([background, target]) @ matrix, signature @ matrix
        cosine = points @ s / np.linalg.norm(points, axis=1) / np.linalg.norm(s)
        expected = roc_auc_score(np.repeat([0, 1], [len(background), len(target)]), cosine)
        assert f"{100 * expected:.0f} %" in alt
    assert svg(figure, alt).startswith("<svg role=")


def test_a_scrambled_signature_is_the_published_codes_reshape():
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64)).astype(np.uint8)
    true, wrong = drawn.signature_maps(images, "tf_efficientnet_lite0", features=7)
    assert true.shape == wrong.shape == (7, 16, 16)
    assert not np.allclose(true, wrong)
    np.testing.assert_allclose(np.sort(true.ravel()), np.sort(wrong.ravel()))


def test_histogram_overlap_is_in_the_words(monkeypatch):
    monkeypatch.setattr(drawn, "READINGS", [PADIM])
    counts = {"normal": (3, 1, 0), "anomalous": (0, 2, 2)}
    frame = pd.concat(
        rows(PADIM, [0, 0, 0]).assign(label=label, low=range(3), high=range(1, 4), count=count)
        for label, count in counts.items()
    )
    figure, alt = drawn.histogram_figure(frame)
    assert "SSDD by masks, PaDiM: 25 %" in alt
    assert svg(figure, alt)
