import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from padim_ace.detect.backbones import load_backbone
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
    true, wrong = drawn.signature_maps(images, load_backbone("resnet18", "random", (64, 64)), features=7)
    assert true.shape == wrong.shape == (7, 16, 16)
    assert not np.allclose(true, wrong)
    np.testing.assert_allclose(np.sort(true.ravel()), np.sort(wrong.ravel()))


def test_histogram_overlap_is_in_the_words():
    rows = [
        ("ssdd", "padim", "", "", label, low, low + 1, count)
        for label, counts in (("normal", (3, 1, 0)), ("anomalous", (0, 2, 2)))
        for low, count in enumerate(counts)
    ]
    columns = ["dataset", "detector", "signature", "convention", "label", "low", "high", "count"]
    figure, alt = drawn.histogram_figure(
        pd.DataFrame(rows, columns=columns), {("padim", "", ""): "PaDiM"}, {"ssdd": "SSDD"}
    )
    assert "SSDD, PaDiM: 25 %" in alt
    assert svg(figure, alt)


@pytest.mark.parametrize("std", [0.5, np.nan])
def test_effects_figure_says_every_effect(std):
    rows = [
        ("ssdd", level, "D1", direction, 50, 60, 10.25, std, 3)
        for level in ("image", "pixel")
        for direction in ("corrected", "introduced")
    ]
    columns = ["dataset", "level", "deviation", "direction", "before", "after", "effect", "std", "seeds"]
    figure, alt = drawn.effects_figure(pd.DataFrame(rows, columns=columns), {"ssdd": "SSDD"})
    assert alt.count("D1 +10.2") == 4
    assert svg(figure, alt)
