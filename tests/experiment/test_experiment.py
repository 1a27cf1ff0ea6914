"""The whole way, on a small dataset, against a brute-force version of it and against anomalib."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import oracles
import pytest
import scipy
import torch
from anomalib.models.components import MultiVariateGaussian
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from fakes.prepared import write_prepared
from padim_ace.experiment.selection import chosen_numbers, scores_frames
from sklearn.metrics import roc_auc_score

from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.detector import Detector
from padim_ace.experiment import embedding_store, image_scores, results
from padim_ace.experiment import experiment as experiment_module
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.examples import write_examples
from padim_ace.experiment.experiment import Experiment, Settings
from padim_ace.paper.detectors import (
    BEYOND,
    CANDIDATES,
    DEVIATIONS,
    EXAMPLES,
    GLRT_SUBSPACE,
    PADIM,
    PADIM_ACE,
    SUPERVISION,
    TABLES,
    without_masks,
)
from padim_ace.paper.published_code import CONVENTIONS

SIZE = (48, 48)
SETTINGS = Settings(seeds=(0, 1), features=12, image_size=SIZE, batch_size=7)
# the images here have 144 patches, the embeddings 12 features
SMALL = [d for d in BEYOND if d.patches < 256 and d.dimensions < 16]
FEW = [d for d in SUPERVISION if d.images < 20]
CONTRAST = Detector(signature="contrast")
DETECTORS = [*TABLES, *DEVIATIONS, *SMALL, *FEW]
CHOSEN = [d for d in CANDIDATES if d in SMALL]
VALIDATED = [PADIM, PADIM_ACE, GLRT_SUBSPACE, *CHOSEN]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return PreparedDataset.open(write_prepared(tmp_path_factory.mktemp("data") / "fake", images=40))


@pytest.fixture(scope="module")
def experiment(dataset):
    return full(dataset)


def full(dataset):
    backbone = load_backbone("tf_efficientnet_lite0")
    return Experiment(
        dataset, backbone, {"paper": DETECTORS}, SETTINGS, validated=VALIDATED, conventions=CONVENTIONS
    )


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
    seed = experiment.runs[0]
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
    pixel = scores.pixel[0, number, "test", "pixel"].metrics()["auroc"]
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
            detector = Detector(covariance=covariance, convention=convention)
            check(experiment, scores, brute, detector,
                  lambda x, p, s=s, sigma=sigma: oracles.ace(x, s[:, p], mean[:, p], sigma[p]))  # fmt: skip
    check(experiment, scores, brute, Detector(covariance="isotropic"),
          lambda x, p: oracles.ace(x, (signature - mean)[:, p], mean[:, p], np.eye(len(x))))  # fmt: skip


def test_deviations_one_at_a_time(experiment, scores, brute):
    _, found, unnormalised, mean, cov = brute
    shape = found["signature"].shape[1:]
    d, (h, w) = shape[0], shape[1:]
    order = torch.randperm(d, generator=torch.Generator().manual_seed(experiment.runs[0].draw.seed)).numpy()

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
        detector = Detector(covariance=covariance, convention=convention)

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
    given = np.random.default_rng(experiment.runs[0].draw.seed).permutation(n)[:5]
    few = np.zeros_like(covered)
    for image in given:
        few[image, np.argsort(length[image])[-16:]] = 1
    cases = {
        Detector(signature="masked"): covered,
        Detector(signature="mined", patches=4): mined,
        Detector(signature="mined", images=5): few,
    }
    for detector, weights in cases.items():
        direction = (weights[..., None] * unit).sum((0, 1))

        direction /= np.linalg.norm(direction)

        def cosine(x, p, direction=direction):
            y = whiten[p] @ (x - mean[:, p])
            return y @ direction / np.linalg.norm(y)

        check(experiment, scores, brute, detector, cosine)


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

    def cosine(x, p):
        y = whiten[p] @ (x - mean[:, p])
        return y @ contrasted / np.linalg.norm(y)

    check(experiment, scores, brute, CONTRAST, cosine)
    span = scipy.linalg.orth(scipy.linalg.eigh(products, loaded)[1][:, -4:])

    def kelly(x, p):
        y = whiten[p] @ (x - mean[:, p])
        return np.linalg.norm(span.T @ y) / np.sqrt(len(brute[0]["train"]) + y @ y)

    def angle(x, p):
        y = whiten[p] @ (x - mean[:, p])
        return np.linalg.norm(span.T @ y) / np.linalg.norm(y)

    check(experiment, scores, brute, Detector(signature="subspace", dimensions=4), angle)
    span = scipy.linalg.orth(scipy.linalg.eigh(products, loaded)[1][:, -8:])
    check(experiment, scores, brute, GLRT_SUBSPACE, kelly)


def test_the_numbers_of_a_signature_are_chosen_on_validation_images(experiment, scores):
    chosen = chosen_numbers(experiment, CHOSEN)
    held_out = experiment.runs[1].roles == "validation"
    assert chosen.groupby(["seed", "signature"])["chosen"].sum().eq(1).all()
    assert set(chosen[chosen["signature"] == "subspace"]["number"]) == {2, 4, 8}
    rows = chosen[(chosen["seed"] == 1) & (chosen["signature"] == "mined")].set_index("number")
    assert set(rows.index) == {4, 16, 64} and rows["chosen"].sum() == 1
    for patches, row in rows.iterrows():
        number = experiment.detectors.index(Detector(signature="mined", patches=patches))
        expected = oracles.auroc(scores.image[1, number, held_out], experiment.dataset.anomalous[held_out])
        assert row["validation_auroc"] == pytest.approx(expected)
    best = rows[rows["validation_auroc"] == rows["validation_auroc"].max()].index.max()
    assert rows["chosen"][best]
    every = scores.frame([{"number": n} for n in range(len(DETECTORS))])
    kept, few = scores_frames(experiment, CHOSEN, chosen, "fake", "lite0")
    of_ace = (kept["detector"] == "ace") & (kept["background"] == "patch") & (kept["signature"] == "mined")
    mine = kept[of_ace & (kept["seed"] == 1)]
    number = experiment.detectors.index(Detector(signature="mined", patches=int(best)))
    theirs = every[(every["number"] == number) & (every["seed"] == 1)]
    assert mine["value"].tolist() == theirs["value"].tolist()
    assert set(kept["signature"]) == {"", "mean", "masked", "mined", "contrast", "subspace"}
    assert set(few["images"]) == {1, 5} and set(few["signature"]) == {"mined"}
    assert not kept.duplicated(list(results.KEY)).any()


def test_shared_background(experiment, scores, brute):
    train = brute[1]["train"]
    patches = train.transpose(0, 2, 3, 1).reshape(-1, train.shape[1])
    mean, cov = patches.mean(0), np.cov(patches.T) + 0.01 * np.eye(train.shape[1])
    check(
        experiment,
        scores,
        brute,
        Detector("padim", "shared", signature="", convention=""),
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
    seed = experiment.runs[0]
    moments = Moments()

    def embed(role):
        images = torch.stack([experiment.dataset.image(i, SIZE) for i in brute[0][role].tolist()])
        with torch.inference_mode():
            return seed.subset.select(experiment.embedder(experiment.embedder.backbone.normalise(images)))

    moments.update(embed("train"))
    background = fit_background(moments, regularisation=0.01 + 1e-5)
    product = Full(background.whitening, experiment.embedder.shape(seed.subset))
    energy, _ = product.measure(background.centre(embed("test")), [])
    distances = experiment.embedder.to_raster(energy.sqrt()).double()
    assert float(((distances - expected).abs() / expected).max()) < 1e-4


def test_scores_are_bounded(experiment, scores):
    bounded = [d.statistic in ("ace", "glrt") for d in experiment.detectors]
    images = scores.image[:, bounded]
    assert 0.5 < np.nanmax(np.abs(images)) <= 1 + 1e-6  # smoothing rounds
    judged = np.isin(scores.roles, ("test", "validation"))
    assert np.array_equal(np.isfinite(scores.image[:, 0]), judged)


def test_same_bytes_twice_and_resumed(experiment, scores, dataset, tmp_path, monkeypatch):
    def frame(run):
        return scores_frames(run, CHOSEN, chosen_numbers(run, CHOSEN), "fake", "lite0")[0]

    results.write_scores(frame(experiment), tmp_path / "first.csv")
    killed = full(dataset)
    monkeypatch.setattr(killed, "_score_pass", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        killed.run(tmp_path / "work")
    resumed = full(dataset)

    def refuse():
        raise AssertionError("a finished pass was repeated")

    monkeypatch.setattr(resumed, "_fit_pass", refuse)
    monkeypatch.setattr(resumed, "_signature_pass", refuse)
    resumed.run(tmp_path / "work")
    results.write_scores(frame(resumed), tmp_path / "second.csv")
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "second.csv").read_bytes()
    resumed.forget(tmp_path / "work")
    assert not list((tmp_path / "work").iterdir())


def small(dataset, **changed):
    settings = replace(SETTINGS, **changed)
    return Experiment(dataset, load_backbone("tf_efficientnet_lite0"), {"paper": [PADIM]}, settings)


def other_weights(experiment):
    next(experiment.embedder.backbone.parameters()).data.mul_(1.001)


def other_manifest(experiment):
    experiment.dataset.manifest.loc[0, "split"] = "other"


@pytest.mark.parametrize(
    "change",
    [
        other_weights,
        other_manifest,
        lambda e: setattr(e, "settings", replace(e.settings, batch_size=8)),
        lambda e: e.runs[0].detectors.append(PADIM_ACE),
        lambda e: e.conventions.update(other=None),
    ],
    ids=["weights", "manifest", "settings", "detectors", "conventions"],
)
def test_nothing_is_resumed_that_was_computed_from_something_else(dataset, change):
    mine = PreparedDataset(dataset.root, dataset.manifest.copy())
    experiment = small(mine)
    experiment.conventions = dict(experiment.conventions)
    before = experiment._key()
    assert small(mine)._key() == before
    change(experiment)
    assert experiment._key() != before


@pytest.mark.parametrize("what", ["code", "torch"])
def test_nothing_is_resumed_that_other_code_computed(dataset, what, monkeypatch):
    before = small(dataset)._key()
    if what == "code":
        monkeypatch.setattr(experiment_module, "sources", lambda: {"sha256": "other"})
    else:
        monkeypatch.setattr(torch, "__version__", "0.0")
    assert small(dataset)._key() != before


def images_seen(experiment, monkeypatch):
    """A list to which the number of images of each call of the backbone is added."""
    seen = []
    compute = experiment.images.compute

    def counted(images, normalise=True):
        seen.append(len(images))
        return compute(images, normalise)

    monkeypatch.setattr(experiment.images, "compute", counted)
    return seen


def test_no_image_is_embedded_twice(dataset, monkeypatch):
    """Nor do stored embeddings change a score."""
    found = []
    for limit in (2**40, 0):
        monkeypatch.setattr(embedding_store, "LIMIT", limit)
        experiment = Experiment(
            dataset,
            load_backbone("tf_efficientnet_lite0"),
            {"paper": [PADIM, CONTRAST]},
            SETTINGS,
            validated=[PADIM],
        )
        seen = images_seen(experiment, monkeypatch)
        found.append((experiment.run(), sum(seen)))
    (stored, once), (computed, again) = found
    assert once == len(dataset) < again
    assert np.array_equal(stored.image, computed.image, equal_nan=True)
    for key, histogram in computed.pixel.items():
        assert stored.pixel[key].metrics() == histogram.metrics()


def test_one_pass_under_two_protocols_gives_what_each_gives_alone(dataset, monkeypatch):
    """And embeds every image once, but the signature's a second time for the published code."""
    judged = {"scenes": [PADIM, CONTRAST], "paper": [PADIM, PADIM_ACE, TABLES[1]]}

    def scored(detectors):
        found = Experiment(
            dataset, load_backbone("tf_efficientnet_lite0"), detectors, SETTINGS,
            validated=[PADIM], conventions=CONVENTIONS,
        )  # fmt: skip
        seen = images_seen(found, monkeypatch)
        return found, found.run(), sum(seen)

    both, tally, seen = scored(judged)
    signed = np.any([run.roles == "signature" for run in both.runs], axis=0)
    assert seen == len(dataset) + signed.sum()
    assert [(r.draw.protocol, r.draw.seed) for r in both.runs] == [(p, s) for p in judged for s in (0, 1)]
    for place, (protocol, detectors) in enumerate(judged.items()):
        alone, expected, _ = scored({protocol: detectors})
        for number in (0, 1):
            place_of, roles = 2 * place + number, alone.runs[number].roles
            assert np.array_equal(both.runs[place_of].roles, roles)
            for detector in both.detectors:
                found = tally.image[place_of, both.detectors.index(detector)]
                if detector in detectors:
                    theirs = expected.image[number, alone.detectors.index(detector)]
                    np.testing.assert_allclose(found, theirs, rtol=1e-5, equal_nan=True)
                else:
                    assert np.isnan(found).all()
    frame = tally.frame([{"number": n} for n in range(len(both.detectors))])
    assert frame.groupby(["protocol", "seed"])["number"].nunique().to_dict() == {
        (protocol, seed): len(detectors) for protocol, detectors in judged.items() for seed in (0, 1)
    }
    of_paper = image_scores.ImageScores.of_run(both, "fake", "lite0", "paper")
    assert of_paper.detectors == judged["paper"] and of_paper.seeds == [0, 1]
    assert np.array_equal(
        of_paper.scores[1, 1], tally.image[3, both.detectors.index(PADIM_ACE)], equal_nan=True
    )


def test_the_vehicle_is_a_second_truth_of_the_same_pixels(dataset, tmp_path):
    """Here the vehicle is the upper half of the mask; the rest of the mask counts as background."""
    shutil.copytree(dataset.root, tmp_path / "own")
    (tmp_path / "own/vehicles").mkdir()
    manifest = dataset.manifest.copy()
    for row in np.flatnonzero(dataset.anomalous):
        mask = dataset.read_grey(dataset.root / manifest["mask"][row])
        mask[np.flatnonzero(mask.any(1))[5:]] = 0
        manifest.loc[row, "vehicle"] = manifest["mask"][row].replace("masks", "vehicles")
        cv2.imwrite(str(tmp_path / "own" / manifest["vehicle"][row]), mask)
    own = PreparedDataset(tmp_path / "own", manifest)
    experiment = small(own)
    tally = experiment.run()
    frame = tally.frame([PADIM.row()])
    assert set(frame["level"]) == {"image", "pixel", "vehicle"}
    test = np.flatnonzero(tally.roles[1] == "test")
    images = torch.stack([own.image(i, SIZE) for i in test.tolist()])
    maps = experiment.maps(images, experiment.runs[1], [PADIM])[0].numpy().ravel()
    for level in ("pixel", "vehicle"):
        truth = np.stack([own.mask(i, SIZE, level).numpy() for i in test.tolist()]).ravel()
        found = frame[(frame["level"] == level) & (frame["seed"] == 1)].set_index("metric")["value"]
        assert set(found.index) == {"auroc", "ap", "aupro", "f1"}
        assert found["auroc"] == pytest.approx(roc_auc_score(truth, maps), abs=1e-3)


def test_frame_and_examples(experiment, scores, tmp_path):
    frame = scores.frame([{"number": n} for n in range(len(DETECTORS))])
    assert len(frame) == 2 * len(DETECTORS) * 7
    assert frame["value"].between(0, 1).all()
    write_examples(experiment, EXAMPLES, "ace", tmp_path / "maps.npz", count=3)
    with np.load(tmp_path / "maps.npz") as kept:
        assert kept["image"].shape == (3, *SIZE) and kept["heat_ace"].shape == (3, *SIZE)
        assert kept["mask"].any((1, 2)).all()
        thresholds = {name: float(kept[f"threshold_{name}"]) for name in EXAMPLES}
    for name, detector in EXAMPLES.items():
        number = experiment.detectors.index(detector)
        best = {
            role: scores.pixel[0, number, role, "pixel"].best_threshold() for role in ("validation", "test")
        }
        assert thresholds[name] == best["validation"] != best["test"]
    assert {(seed, role) for seed, _, role, _ in scores.pixel} == {
        (0, "test"),
        (1, "test"),
        (0, "validation"),
    }
    record = experiment.record()
    assert set(record) == {"paper 0", "paper 1"} and len(record["paper 0"]["features"]) == 12


def test_a_dataset_without_masks_is_judged_by_its_images(dataset, tmp_path):
    bare = PreparedDataset(dataset.root, dataset.manifest.assign(mask=""))
    detectors = without_masks([PADIM, PADIM_ACE, GLRT_SUBSPACE, Detector(signature="masked")])
    experiment = Experiment(
        bare, load_backbone("tf_efficientnet_lite0"), {"paper": detectors}, SETTINGS, validated=detectors
    )
    tally = experiment.run()
    assert set(tally.frame([d.row() for d in detectors])["level"]) == {"image"} and len(detectors) == 3
    write_examples(experiment, EXAMPLES, "ace", tmp_path / "maps.npz", count=2)
    normal = (experiment.runs[0].roles == "validation") & ~bare.anomalous
    with np.load(tmp_path / "maps.npz") as kept:
        assert not kept["mask"].any() and kept["threshold_padim"] == tally.image[0, 0, normal].max()


def test_a_second_run_of_one_experiment_counts_every_pixel_once(dataset):
    experiment = small(dataset)
    once = experiment.run().pixel[0, 0, "test", "pixel"].negative.sum()
    assert experiment.run().pixel[0, 0, "test", "pixel"].negative.sum() == once > 0


def test_a_score_that_is_not_finite_names_its_detector(dataset):
    experiment = small(dataset)
    tally = experiment.run()
    tally._image[0, 0, tally.with_role("test")[0]] = np.nan
    with pytest.raises(
        ValueError, match="padim patch full.*paper, seed 0: image metrics: expected finite scores"
    ):
        tally.frame([PADIM.row()])


def test_bfloat16_is_near(dataset):
    rows = {}
    for precision in ("float32", "bfloat16"):
        settings = Settings(seeds=(0,), features=12, image_size=SIZE, batch_size=7, precision=precision)
        experiment = Experiment(dataset, load_backbone("tf_efficientnet_lite0"), {"paper": [PADIM]}, settings)
        rows[precision] = experiment.run().image[0, 0]
    held_out = np.isfinite(rows["float32"])
    np.testing.assert_allclose(rows["bfloat16"][held_out], rows["float32"][held_out], rtol=0.2)
    assert not np.array_equal(rows["bfloat16"][held_out], rows["float32"][held_out])


def test_wrong_settings_and_detectors(dataset):
    with pytest.raises(ValueError, match="precision: expected one of float32, bfloat16, found 'int8'"):
        Settings(precision="int8")
    for wrong, said in (
        ({"statistic": "padin"}, "statistic: expected one of padim, ace, glrt, found 'padin'"),
        ({"signature": ""}, "signature: expected one of mean, mined, .*, found ''"),
        ({"statistic": "padim"}, "signature: expected one of none, found 'mean'"),
        ({"background": "local"}, "background: .*found 'local'"),
        ({"covariance": "diagonal", "signature": "mined"}, "mined signature: expected a full covariance"),
        ({"signature": "mined", "convention": "published"}, "mined signature"),
        ({"signature": "mined", "patches": 0}, "patches: expected 1 or more, found 0"),
    ):
        with pytest.raises(ValueError, match=said):
            Detector(**wrong)
    with pytest.raises(ValueError, match="convention: expected one of centred, found 'published'"):
        Experiment(dataset, load_backbone("tf_efficientnet_lite0"), {"paper": [TABLES[1]]}, SETTINGS)
