"""The whole way, on a small dataset, against a brute-force version of it and against anomalib."""

import numpy as np
import oracles
import pytest
import scipy
import torch
from anomalib.models.components import MultiVariateGaussian
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from fakes.prepared import write_prepared
from sklearn.metrics import roc_auc_score

from padim_ace.detect.backbones import load_backbone
from padim_ace.experiment import embedding_store, results
from padim_ace.experiment import experiment as experiment_module
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.detectors import (
    BEYOND,
    CANDIDATES,
    DEVIATIONS,
    PADIM,
    PADIM_ACE,
    PADIM_GLRT,
    SUPERVISION,
    TABLES,
    Detector,
)
from padim_ace.experiment.experiment import Experiment, Settings
from padim_ace.experiment.reporting import chosen_numbers, metrics_frame, split_frame, write_examples
from padim_ace.experiment.scorer import patch_scores

SIZE = (48, 48)
SETTINGS = Settings(seeds=(0, 1), features=12, image_size=SIZE, batch_size=7)
# the images here have 144 patches, the embeddings 12 features
SMALL = [d for d in BEYOND if d.signature not in ("mined:256", "subspace:16")]
FEW = [d for d in SUPERVISION if d.images < 20]
CONTRAST = Detector("ace", "full", "", "contrast", "centred")
DETECTORS = [*TABLES, *DEVIATIONS, *SMALL, *FEW]
VALIDATED = [PADIM, PADIM_ACE, PADIM_GLRT, *(d for d in CANDIDATES if d in SMALL)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return PreparedDataset.open(write_prepared(tmp_path_factory.mktemp("data") / "fake", images=40))


@pytest.fixture(scope="module")
def experiment(dataset):
    return Experiment(dataset, load_backbone("tf_efficientnet_lite0"), DETECTORS, SETTINGS, VALIDATED)


@pytest.fixture(scope="module")
def scores(experiment):
    return experiment.run()


def embeddings(experiment, seed, index, normalise=True):
    """[image, feature, row, column] by the oracle, in float64."""
    backbone = experiment.embedder.backbone
    images = torch.stack([experiment.dataset.image(i, SIZE) for i in index]).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        maps = backbone(backbone.normalise(images) if normalise else images)
    return oracles.embedding(maps, seed.subset.index(experiment.embedder.channels)).numpy()


@pytest.fixture(scope="module")
def brute(experiment):
    """Everything about the first seed, one place at a time."""
    seed = experiment.seeds[0]
    roles = {r: np.flatnonzero(seed.roles == r) for r in ("train", "signature", "test")}
    found = {r: embeddings(experiment, seed, i.tolist()) for r, i in roles.items()}
    unnormalised = embeddings(experiment, seed, roles["signature"].tolist(), normalise=False)
    n, d, h, w = found["train"].shape
    train = found["train"].reshape(n, d, h * w)
    mean = train.mean(0)
    cov = np.stack([np.cov(train[:, :, p].T) for p in range(h * w)]) + 0.01 * np.eye(d)
    return roles, found, unnormalised, mean, cov


def maps_of(patch_scores):
    generator = AnomalyMapGenerator(sigma=4)
    upsampled = generator.up_sample(torch.tensor(patch_scores)[:, None].float(), SIZE)
    return generator.smooth_anomaly_map(upsampled)[:, 0].numpy()


def brute_scores(brute, statistic):
    """Maps of the test images, from a function of (embedding, place)."""
    x = brute[1]["test"]
    n, d, h, w = x.shape
    flat = x.reshape(n, d, h * w)
    return maps_of(
        np.array([[statistic(flat[i, :, p], p) for p in range(h * w)] for i in range(n)]).reshape(n, h, w)
    )


def check(experiment, scores, brute, detector, statistic, atol=2e-4):
    expected = brute_scores(brute, statistic)
    number = experiment.detectors.index(detector)
    test = brute[0]["test"]
    found = scores.image[0, number, test]
    np.testing.assert_allclose(found, expected.max((1, 2)), rtol=atol, atol=atol)
    masks = np.stack([experiment.dataset.mask(i, SIZE).numpy() for i in test.tolist()])
    pixel = scores.pixel[0, number, "test"].metrics()["auroc"]
    assert pixel == pytest.approx(roc_auc_score(masks.ravel(), expected.ravel()), abs=1e-3)


def test_padim(experiment, scores, brute):
    *_, mean, cov = brute
    check(experiment, scores, brute, PADIM, lambda x, p: oracles.mahalanobis(x, mean[:, p], cov[p]), 1e-3)


def test_ace_in_the_three_conventions_and_all_structures(experiment, scores, brute):
    _, found, _, mean, cov = brute
    signature = found["signature"].mean(0).reshape(mean.shape)
    structures = {"full": cov, "diagonal": cov * np.eye(cov.shape[1])}
    for covariance, sigma in structures.items():
        for convention, s in (("centred", signature - mean), ("equation", signature)):
            detector = Detector("ace", covariance, "", "mean", convention)
            check(experiment, scores, brute, detector,
                  lambda x, p, s=s, sigma=sigma: oracles.ace(x, s[:, p], mean[:, p], sigma[p]))  # fmt: skip
    for aggregation in ("mean_diagonal", "determinant"):
        detector = Detector("ace", "isotropic", aggregation, "mean", "centred")
        check(experiment, scores, brute, detector,
              lambda x, p: oracles.ace(x, (signature - mean)[:, p], mean[:, p], np.eye(len(x))))  # fmt: skip


def test_deviations_one_at_a_time(experiment, scores, brute):
    _, found, unnormalised, mean, cov = brute
    shape = found["signature"].shape[1:]
    d, (h, w) = shape[0], shape[1:]
    order = torch.randperm(d, generator=torch.Generator().manual_seed(experiment.seeds[0].seed)).numpy()

    def scrambled(signature):  # the code's own lines: (h, w, C) read as (C, h * w)
        image = signature.reshape(d, h, w)[order].transpose(1, 2, 0)
        wrong = image.copy().reshape(d, h * w)
        result = np.empty_like(wrong)
        result[order] = wrong
        return result

    s = found["signature"].mean(0).reshape(d, -1)
    raw = unnormalised.mean(0).reshape(d, -1)
    precision = np.linalg.inv(cov)
    diagonal_of_precision = np.stack([np.diag(np.diag(m)) for m in precision])
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
        detector = Detector("ace", covariance, "", "mean", convention)

        def statistic(x, p, s=signature, sigma=sigma):
            return oracles.ace(x, s[:, p], mean[:, p], sigma[p])

        check(experiment, scores, brute, detector, statistic)


def test_pooled_signatures(experiment, scores, brute):
    roles, found, _, mean, cov = brute
    n, d, h, w = found["signature"].shape
    flat = found["signature"].reshape(n, d, h * w)
    whiten = np.linalg.inv(np.linalg.cholesky(cov))
    white = np.einsum("pfg,ngp->npf", whiten, flat - mean)
    length = np.linalg.norm(white, axis=-1)
    unit = white / length[..., None]
    masks = torch.stack([experiment.dataset.mask(i, SIZE) for i in roles["signature"].tolist()]).float()
    covered = torch.nn.functional.avg_pool2d(masks[:, None], SIZE[0] // h).reshape(n, -1).numpy()
    mined = np.zeros_like(covered)
    for image in range(n):
        mined[image, np.argsort(length[image])[-4:]] = 1
    given = np.random.default_rng(experiment.seeds[0].seed).permutation(n)[:5]
    few = np.zeros_like(covered)
    few[given] = covered[given]
    for name, weights in (("masked", covered), ("mined:4", mined), ("masked/5", few)):
        direction = (weights[..., None] * unit).sum((0, 1))

        direction /= np.linalg.norm(direction)

        def cosine(x, p, direction=direction):
            y = whiten[p] @ (x - mean[:, p])
            return y @ direction / np.linalg.norm(y)

        check(experiment, scores, brute, Detector("ace", "full", "", name, "centred"), cosine)
    direction = (covered[..., None] * unit).sum((0, 1))
    direction /= np.linalg.norm(direction)
    check(experiment, scores, brute, Detector("amf", "full", "", "masked", "centred"),
          lambda x, p: whiten[p] @ (x - mean[:, p]) @ direction)  # fmt: skip


def whitened(brute, role):
    """Whitened patches of the first seed ``[image, place, feature]`` and their lengths."""
    *_, mean, cov = brute
    x = brute[1][role]
    factors = np.linalg.inv(np.linalg.cholesky(cov))
    white = np.einsum("pfg,ngp->npf", factors, x.reshape(*x.shape[:2], -1) - mean)
    return white, np.linalg.norm(white, axis=-1)


def farthest(white, length, count=16):
    """Unit patches ``[patch, feature]`` of the largest length in each image."""
    return np.concatenate(
        [w[np.argsort(n)[-count:]] / np.sort(n)[-count:][:, None] for w, n in zip(white, length, strict=True)]
    )


def test_signatures_against_clutter(experiment, scores, brute):
    """Every normal training image is looked at for clutter here: there are fewer than the limit."""
    *_, mean, cov = brute
    whiten = np.linalg.inv(np.linalg.cholesky(cov))
    targets, clutter = (farthest(*whitened(brute, role)) for role in ("signature", "train"))
    d = len(mean)
    loaded = clutter.T @ clutter / len(clutter) + np.eye(d) / d
    products = targets.T @ targets
    contrasted = np.linalg.inv(loaded) @ targets.mean(0)
    contrasted /= np.linalg.norm(contrasted)
    refined = products @ products @ targets.mean(0)
    refined /= np.linalg.norm(refined)
    for name, direction in (("contrast", contrasted), ("refined", refined)):

        def cosine(x, p, direction=direction):
            y = whiten[p] @ (x - mean[:, p])
            return y @ direction / np.linalg.norm(y)

        check(experiment, scores, brute, Detector("ace", "full", "", name, "centred"), cosine)
    span = scipy.linalg.orth(scipy.linalg.eigh(products, loaded)[1][:, -4:])

    def kelly(x, p):
        y = whiten[p] @ (x - mean[:, p])
        return np.linalg.norm(span.T @ y) / np.sqrt(len(brute[0]["train"]) + y @ y)

    def angle(x, p):
        y = whiten[p] @ (x - mean[:, p])
        return np.linalg.norm(span.T @ y) / np.linalg.norm(y)

    check(experiment, scores, brute, Detector("ace", "full", "", "subspace:4", "centred"), angle)
    eight = scipy.linalg.orth(scipy.linalg.eigh(products, loaded)[1][:, -8:])
    span = eight
    check(experiment, scores, brute, Detector("glrt", "full", "", "subspace", "centred"), kelly)


def test_a_subspace_of_one_dimension_has_no_sign():
    detector = Detector("ace", "full", "", "subspace:1", "centred")
    along, energy = torch.tensor([[[0.5], [-0.5]]]), torch.ones(1, 2)
    found = patch_scores(detector, along, energy, torch.ones(1, 1), 9)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5]]))


def test_shrinkage_is_the_likeliest_of_held_out_images(experiment, brute):
    seed = experiment.seeds[0]
    *_, mean, cov = brute
    index = np.flatnonzero((seed.roles == "validation") & ~experiment.dataset.anomalous)
    x = embeddings(experiment, seed, index.tolist())
    x = x.reshape(*x.shape[:2], -1)
    bare = cov - 0.01 * np.eye(len(mean))
    for weight in (0.0, 0.3):
        mixed = (1 - weight) * bare + weight * bare.mean(0) + 0.01 * np.eye(len(mean))
        expected = np.mean(
            [
                scipy.stats.multivariate_normal.logpdf(x[:, :, p], mean[:, p], mixed[p]).mean()
                for p in range(x.shape[2])
            ]
        )
        assert seed.shrinkage[weight] == pytest.approx(expected, rel=1e-3)
    best = max(seed.shrinkage, key=seed.shrinkage.get)
    assert best > 0  # 12 features from 32 images


def test_the_numbers_of_a_signature_are_chosen_on_validation_images(experiment, scores):
    chosen = chosen_numbers(experiment, scores)
    seed = experiment.seeds[1]
    held_out = seed.roles == "validation"
    assert chosen.groupby(["seed", "signature"])["chosen"].sum().eq(1).all()
    assert set(chosen[chosen["signature"] == "subspace"]["number"]) == {2, 4, 8}
    rows = chosen[(chosen["seed"] == 1) & (chosen["signature"] == "mined")].set_index("number")
    assert set(rows.index) == {4, 16, 64} and rows["chosen"].sum() == 1
    for patches, row in rows.iterrows():
        number = experiment.detectors.index(Detector("ace", "full", "", f"mined:{patches}", "centred"))
        expected = oracles.auroc(scores.image[1, number, held_out], experiment.dataset.anomalous[held_out])
        assert row["validation_auroc"] == pytest.approx(expected)
    best = rows[rows["validation_auroc"] == rows["validation_auroc"].max()].index.max()
    assert rows["chosen"][best]
    every = metrics_frame(experiment, scores, "fake", "lite0")
    kept, few = split_frame(every, chosen)
    of_ace = (kept["detector"] == "ace") & (kept["signature"] == "mined")
    mine = kept[of_ace & (kept["seed"] == 1)].reset_index(drop=True)
    theirs = every[(every["signature"] == f"mined:{best}") & (every["seed"] == 1)].reset_index(drop=True)
    assert mine["value"].tolist() == theirs["value"].tolist()
    names = {"", "mean", "masked", "mined", "refined", "contrast", "subspace"}
    assert set(kept["signature"]) == names
    assert set(few["images"]) == {1, 5} and set(few["signature"]) == {"masked", "mined"}


def test_shared_background(experiment, scores, brute):
    train = brute[1]["train"]
    patches = train.transpose(0, 2, 3, 1).reshape(-1, train.shape[1])
    mean, cov = patches.mean(0), np.cov(patches.T) + 0.01 * np.eye(train.shape[1])
    check(
        experiment,
        scores,
        brute,
        Detector("padim_shared"),
        lambda x, p: oracles.mahalanobis(x, mean, cov),
        1e-3,
    )


def test_padim_equals_anomalibs_on_the_same_features(experiment, scores, brute):
    """anomalib adds 1e-5 to the variances beside PaDiM's 0.01."""
    from padim_ace.detect.background import Moments, fit_background
    from padim_ace.detect.inner_products import Full

    found = brute[1]
    gaussian = MultiVariateGaussian()
    mean, precision = gaussian.fit(torch.tensor(found["train"]).float())
    expected = AnomalyMapGenerator.compute_distance(torch.tensor(found["test"]).float(), [mean, precision])[
        :, 0
    ]
    seed = experiment.seeds[0]
    moments = Moments()

    def embed(role):
        images = torch.stack([experiment.dataset.image(i, SIZE) for i in brute[0][role].tolist()])
        with torch.inference_mode():
            return seed.subset.select(experiment.embedder(experiment.embedder.backbone.normalise(images)))

    moments.update(embed("train"))
    background = fit_background(moments, regularisation=0.01 + 1e-5)
    energy, _ = Full(background, experiment.shape(seed)).measure(background.centre(embed("test")), [])
    distances = experiment.embedder.to_raster(energy.sqrt()).double()
    assert float(((distances - expected).abs() / expected).max()) < 1e-4


def test_scores_are_bounded(experiment, scores):
    bounded = [d.statistic in ("ace", "glrt") for d in experiment.detectors]
    images = scores.image[:, bounded]
    assert np.nanmax(np.abs(images)) <= 1
    assert np.isfinite(scores.image[:, :, 0]).any() or np.isnan(scores.image[:, :, 0]).all()


def test_same_bytes_twice_and_resumed(experiment, scores, dataset, tmp_path, monkeypatch):
    first = tmp_path / "first.csv"
    frame = split_frame(
        metrics_frame(experiment, scores, "fake", "lite0"), chosen_numbers(experiment, scores)
    )[0]
    results.write_scores(frame, first)

    def fresh():
        return Experiment(dataset, load_backbone("tf_efficientnet_lite0"), DETECTORS, SETTINGS, VALIDATED)

    killed = fresh()
    monkeypatch.setattr(killed, "_score_pass", lambda work: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        killed.run(tmp_path / "work")
    resumed = fresh()

    def refuse():
        raise AssertionError("a finished pass was repeated")

    monkeypatch.setattr(resumed, "_fit_pass", refuse)
    monkeypatch.setattr(resumed, "_signature_pass", refuse)
    second = tmp_path / "second.csv"
    again = resumed.run(tmp_path / "work")
    frame = split_frame(metrics_frame(resumed, again, "fake", "lite0"), chosen_numbers(resumed, again))[0]
    results.write_scores(frame, second)
    assert first.read_bytes() == second.read_bytes()
    other = Experiment(dataset, load_backbone("tf_efficientnet_lite0"), [PADIM], SETTINGS)
    monkeypatch.setattr(other, "_fit_pass", refuse)
    with pytest.raises(AssertionError, match="repeated"):
        other.run(tmp_path / "work")
    resumed.forget(tmp_path / "work")
    assert not list((tmp_path / "work").iterdir())


def images_seen(experiment, monkeypatch):
    """A list to which the number of images of each call of the backbone is added."""
    seen = []
    compute = experiment.images.compute

    def counted(images, normalise=True):
        seen.append(len(images))
        return compute(images, normalise)

    monkeypatch.setattr(experiment.images, "compute", counted)
    return seen


def test_a_cut_score_pass_goes_on(dataset, tmp_path, monkeypatch):
    detectors = [PADIM, PADIM_ACE]

    def fresh():
        return Experiment(dataset, load_backbone("tf_efficientnet_lite0"), detectors, SETTINGS, [PADIM])

    expected = fresh().run()
    monkeypatch.setattr(experiment_module, "SAVED_EVERY", 0)
    killed = fresh()
    judge, calls = killed._judge, []

    def cut(*arguments):
        calls.append(1)
        if len(calls) == 17:  # two seeds and two roles: in the fifth batch
            raise KeyboardInterrupt
        judge(*arguments)

    monkeypatch.setattr(killed, "_judge", cut)
    with pytest.raises(KeyboardInterrupt):
        killed.run(tmp_path)
    resumed = fresh()
    seen = images_seen(resumed, monkeypatch)
    found = resumed.run(tmp_path)
    scored = len(resumed._with_role("test", "validation"))
    assert sum(seen) == scored - 4 * SETTINGS.batch_size > 0
    assert np.array_equal(found.image, expected.image, equal_nan=True)
    assert found.pixel.keys() == expected.pixel.keys()
    for key, histogram in expected.pixel.items():
        assert found.pixel[key].metrics() == histogram.metrics()


def test_no_image_is_embedded_twice(dataset, monkeypatch):
    """Nor do stored embeddings change a score."""
    found = []
    for limit in (2**40, 0):
        monkeypatch.setattr(embedding_store, "LIMIT", limit)
        experiment = Experiment(
            dataset, load_backbone("tf_efficientnet_lite0"), [PADIM, CONTRAST], SETTINGS, [PADIM]
        )
        seen = images_seen(experiment, monkeypatch)
        found.append((experiment.run(), sum(seen)))
    (stored, once), (computed, again) = found
    assert once == len(dataset) < again
    assert np.array_equal(stored.image, computed.image, equal_nan=True)
    for key, histogram in computed.pixel.items():
        assert stored.pixel[key].metrics() == histogram.metrics()


def test_frame_and_examples(experiment, scores, tmp_path):
    frame = metrics_frame(experiment, scores, "fake", "lite0")
    assert len(frame) == 2 * len(DETECTORS) * 7
    assert frame["value"].between(0, 1).all()
    write_examples(experiment, scores, tmp_path / "maps.npz", count=3)
    with np.load(tmp_path / "maps.npz") as kept:
        assert kept["image"].shape == (3, *SIZE) and kept["heat_ace"].shape == (3, *SIZE)
        assert kept["mask"].any((1, 2)).all()
        assert kept["threshold_padim"] > 0 and -1 <= kept["threshold_ace"] <= 1
    assert {(seed, role) for seed, _, role in scores.pixel} == {(0, "test"), (1, "test"), (0, "validation")}
    record = experiment.record()
    assert set(record) == {"0", "1"} and len(record["0"]["features"]) == 12


def test_bfloat16_is_near(dataset):
    rows = {}
    for precision in ("float32", "bfloat16"):
        settings = Settings(seeds=(0,), features=12, image_size=SIZE, batch_size=7, precision=precision)
        experiment = Experiment(dataset, load_backbone("tf_efficientnet_lite0"), [PADIM], settings)
        rows[precision] = experiment.run().image[0, 0]
    held_out = np.isfinite(rows["float32"])
    np.testing.assert_allclose(rows["bfloat16"][held_out], rows["float32"][held_out], rtol=0.2)
    assert not np.array_equal(rows["bfloat16"][held_out], rows["float32"][held_out])


def test_wrong_settings_and_detectors():
    with pytest.raises(ValueError, match="float32 or bfloat16, found 'int8'"):
        Settings(precision="int8")
    with pytest.raises(ValueError, match="found 'padin'"):
        Detector("padin")
    with pytest.raises(ValueError, match="mean, masked, mined.*found ''"):
        Detector("ace")
    with pytest.raises(ValueError, match="convention"):
        Detector("ace", "full", "", "mean", "centred+D9")
    with pytest.raises(ValueError, match="aggregation"):
        Detector("ace", "full", "trace", "mean", "centred")
    with pytest.raises(ValueError, match="mined signature"):
        Detector("ace", "diagonal", "", "mined", "centred")
