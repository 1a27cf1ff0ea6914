"""The whole way, on a small dataset, against a plain version of it and against anomalib."""

import numpy as np
import oracles
import pytest
import torch
from anomalib.models.components import MultiVariateGaussian
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from fakes.prepared import write_prepared
from naive import Naive
from sklearn.metrics import roc_auc_score

from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.background import Moments, fit_background
from padim_ace.detect.detector import PADIM, RECOMMENDED, UNSUPERVISED, Detector
from padim_ace.detect.inner_products import Full
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Experiment, Settings
from padim_ace.paper.detectors import DETECTORS, DEVIATIONS, LOGISTIC, PADIM_ACE, TABLES
from padim_ace.paper.published_code import CONVENTIONS

SIZE = (48, 48)
SETTINGS = Settings(seeds=(0,), features=12, image_size=SIZE, batch_size=7)
SCENES = list(dict.fromkeys(d for d in DETECTORS["scenes"] if d.convention in ("", "centred")))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    dataset = PreparedDataset.open(write_prepared(tmp_path_factory.mktemp("data") / "fake", images=40))
    detectors = {"scenes": SCENES, "paper": [*TABLES, *DEVIATIONS]}
    backbone = load_backbone("tf_efficientnet_lite0")
    return Experiment(dataset, backbone, detectors, SETTINGS, conventions=CONVENTIONS)


@pytest.fixture(scope="module")
def tally(experiment):
    return experiment.run()


@pytest.fixture(scope="module")
def scenes(experiment):
    return Naive(experiment, 0)


@pytest.fixture(scope="module")
def paper(experiment):
    return Naive(experiment, 1)


def check(tally, naive, detector, scores, tolerance=1e-4):
    """Image scores and pixel AUROC of the test images, from patch scores [image, place]."""
    number, draw = naive.experiment.detectors.index(detector), naive.experiment.runs.index(naive.run)
    expected, test = naive.maps(scores, detector.smoothing), naive.index("test")
    np.testing.assert_allclose(
        tally.image[draw, number, test], expected.max((1, 2)), rtol=tolerance, atol=tolerance
    )
    masks = np.stack([naive.experiment.dataset.mask(i, SIZE).numpy() for i in test.tolist()])
    pixel = tally.pixel[draw, number, "test", "pixel"].metrics()["auroc"]
    assert pixel == pytest.approx(roc_auc_score(masks.ravel(), expected.ravel()), abs=1e-3)


@pytest.mark.parametrize("detector", SCENES, ids=lambda d: " ".join([*d.row().values(), f"{d.images or ''}"]))
def test_what_is_claimed_with_scenes_apart(tally, scenes, detector):
    check(tally, scenes, detector, scenes.scores(detector))


def test_all_kinds_are_among_them():
    assert {RECOMMENDED, UNSUPERVISED, PADIM, PADIM_ACE, LOGISTIC} < set(SCENES)
    assert {d.statistic for d in SCENES} == {"padim", "ace", "glrt", "tolerant", "linear"}
    assert {d.signature for d in SCENES} == {"", "mean", "masked", "miace", "lace", "logistic"}
    left = {"without_grey", "without_peak", "without_power"}
    assert {d.channels for d in SCENES} == {"network", "sar", *left}
    assert {d.smoothing for d in SCENES} == {1, 2, 4} and {d.background for d in SCENES} == {
        "patch",
        "shared",
    }
    assert {1, 5, None} < {d.images for d in SCENES}


def cosines(naive, s, covariance):
    """ACE [image, place] with a signature [place, feature] measured from the mean."""
    x, (mean, *_) = naive.embeddings("test"), naive.background("patch", "network")
    return np.array(
        [
            [oracles.ace(x[i, p], s[p], mean[p], covariance[p]) for p in range(x.shape[1])]
            for i in range(len(x))
        ]
    )


def test_padim_as_the_paper_splits(tally, paper):
    check(tally, paper, PADIM, paper.scores(PADIM))


def test_ace_in_the_three_conventions_and_all_structures(tally, paper):
    mean, full, _ = paper.background("patch", "network")
    signature, d = paper.embeddings("signature").mean(0), mean.shape[1]
    structures = {"full": full, "diagonal": full * np.eye(d)}
    for covariance, sigma in structures.items():
        for convention, s in (("centred", signature - mean), ("equation", signature)):
            check(
                tally, paper, Detector(covariance=covariance, convention=convention), cosines(paper, s, sigma)
            )
    identity = np.broadcast_to(np.eye(d), full.shape)
    check(tally, paper, Detector(covariance="isotropic"), cosines(paper, signature - mean, identity))


def test_deviations_one_at_a_time(tally, paper):
    mean, cov, _ = paper.background("patch", "network")
    s, raw = (paper.embeddings("signature", normalise=on).mean(0) for on in (True, False))
    (h, w), d = paper.grid, mean.shape[1]
    order = torch.randperm(d, generator=torch.Generator().manual_seed(paper.run.draw.seed)).numpy()

    def scrambled(signature):  # the code's own lines: (h, w, C) read as (C, h * w)
        image = signature.T.reshape(d, h, w)[order].transpose(1, 2, 0)
        wrong = image.copy().reshape(d, h * w)
        result = np.empty_like(wrong)
        result[order] = wrong
        return result.T

    precision = np.linalg.inv(cov)
    diagonal_of_precision = precision * np.eye(d)
    cases = {
        ("full", "centred+D1"): (s - mean, precision),
        ("full", "centred+D3"): (scrambled(s) - mean, cov),
        ("full", "centred+D4"): (raw - mean, cov),
        ("full", "published"): (scrambled(raw), precision),
        ("full", "published-D1"): (scrambled(raw), cov),
        ("full", "published-D3"): (raw, precision),
        ("full", "published-D4"): (scrambled(s), precision),
        ("full", "published-D5"): (scrambled(raw) - mean, precision),
        ("diagonal", "published"): (scrambled(raw), diagonal_of_precision),
        ("diagonal", "centred+D2"): (s - mean, np.linalg.inv(diagonal_of_precision)),
    }
    for (covariance, convention), (signature, sigma) in cases.items():
        detector = Detector(covariance=covariance, convention=convention)
        check(tally, paper, detector, cosines(paper, signature, sigma), 2e-4)


def test_padim_equals_anomalibs_on_the_same_features(experiment, paper, tally):
    """anomalib adds 1e-5 to the variances beside PaDiM's 0.01."""
    found = {
        role: torch.tensor(x).swapaxes(1, 2).unflatten(2, paper.grid).float()
        for role in ("train", "test")
        for x in [paper.embeddings(role)]
    }
    gaussian = MultiVariateGaussian()
    mean, precision = gaussian.fit(found["train"])
    expected = AnomalyMapGenerator.compute_distance(found["test"], [mean, precision])[:, 0]
    moments = Moments()

    def embed(role):
        images = torch.stack([experiment.dataset.image(i, SIZE) for i in paper.index(role).tolist()])
        with torch.inference_mode():
            return paper.run.subset.select(experiment.embedder.embed(images))

    moments.update(embed("train"))
    background = fit_background(moments, regularisation=0.01 + 1e-5)
    product = Full(background.whitening, experiment.embedder.shape(paper.run.subset))
    energy, _ = product.measure(background.centre(embed("test")), [])
    distances = experiment.embedder.to_raster(energy.sqrt()).double()
    assert float(((distances - expected).abs() / expected).max()) < 1e-4
