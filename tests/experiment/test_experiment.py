"""What an experiment does beside its numbers, on a small dataset (:mod:`test_against_naive` has those)."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import oracles
import pytest
import torch
from fakes.prepared import write_prepared
from sklearn.metrics import roc_auc_score

from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.detector import PADIM, RECOMMENDED, Detector
from padim_ace.experiment import embeddings, results
from padim_ace.experiment import experiment as experiment_module
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Experiment, Settings, write_examples
from padim_ace.paper.detectors import EXAMPLES, LOGISTIC, PADIM_ACE, TABLES, without_masks
from padim_ace.paper.published_code import CONVENTIONS

SIZE = (48, 48)
SETTINGS = Settings(seeds=(0, 1), features=12, image_size=SIZE, batch_size=7)
JUDGED = {"scenes": [*EXAMPLES.values(), LOGISTIC], "paper": TABLES}
VALIDATED = [*EXAMPLES.values()]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return PreparedDataset.open(write_prepared(tmp_path_factory.mktemp("data") / "fake", images=40))


@pytest.fixture(scope="module")
def experiment(dataset):
    return full(dataset)


def full(dataset):
    backbone = load_backbone("tf_efficientnet_lite0")
    return Experiment(dataset, backbone, JUDGED, SETTINGS, validated=VALIDATED, conventions=CONVENTIONS)


@pytest.fixture(scope="module")
def scores(experiment):
    return experiment.run()


def frame_of(run, role="test"):
    return run.tally.frame([d.row() for d in run.detectors], role, dataset="fake", backbone="lite0")


def test_validation_images_have_a_frame_of_their_own(experiment, scores):
    frame = frame_of(experiment, "validation")
    assert frame.groupby(["protocol", "level"])["detector"].nunique().to_dict() == {
        ("scenes", "image"): 3, ("scenes", "pixel"): 3, ("paper", "image"): 2, ("paper", "pixel"): 2,
    }  # fmt: skip
    run, number = experiment.runs[1], experiment.detectors.index(RECOMMENDED)
    held_out = run.roles == "validation"
    row = frame.query("protocol == 'scenes' and seed == 1 and level == 'image' and metric == 'auroc'")
    found = row.loc[row["detector"] == "tolerant", "value"].item()
    expected = oracles.auroc(scores.image[1, number, held_out], experiment.dataset.anomalous[held_out])
    assert found == pytest.approx(expected)


def test_scores_are_bounded(experiment, scores):
    bounded = [d.bounded for d in experiment.detectors]
    assert bounded == [d.statistic not in ("padim", "linear") for d in experiment.detectors]
    images = scores.image[:, bounded]
    assert 0.5 < np.nanmax(np.abs(images)) <= 1 + 1e-6  # smoothing rounds
    judged = np.isin(scores.roles, ("test", "validation"))
    assert np.array_equal(np.isfinite(scores.image[:, 0]), judged)


def test_same_bytes_twice_and_resumed(experiment, scores, dataset, tmp_path, monkeypatch):
    results.write_scores(frame_of(experiment), tmp_path / "first.csv")
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
    results.write_scores(frame_of(resumed), tmp_path / "second.csv")
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
        monkeypatch.setattr(embeddings, "LIMIT", limit)
        experiment = Experiment(
            dataset,
            load_backbone("tf_efficientnet_lite0"),
            {"paper": [PADIM, RECOMMENDED]},
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
    judged = {
        "scenes": [PADIM, replace(RECOMMENDED, signature="miace")],
        "paper": [PADIM, PADIM_ACE, TABLES[1]],
    }

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
    frame = frame_of(experiment)
    assert len(frame) == 2 * sum(map(len, JUDGED.values())) * 7
    assert frame["value"].between(0, 1).all()
    write_examples(experiment, EXAMPLES, "recommended", tmp_path / "maps.npz", count=3)
    with np.load(tmp_path / "maps.npz") as kept:
        assert kept["image"].shape == (3, *SIZE) and kept["heat_recommended"].shape == (3, *SIZE)
        assert kept["mask"].any((1, 2)).all()
        thresholds = {name: float(kept[f"threshold_{name}"]) for name in EXAMPLES}
    for name, detector in EXAMPLES.items():
        number = experiment.detectors.index(detector)
        assert thresholds[name] == scores.pixel[0, number, "validation", "pixel"].best_threshold()
        assert thresholds[name] != scores.pixel[0, number, "test", "pixel"].best_threshold()
    record = experiment.record()
    assert set(record) == {f"{protocol} {seed}" for protocol in JUDGED for seed in (0, 1)}
    assert len(record["paper 0"]["features"]) == 12


def test_a_dataset_without_masks_is_judged_by_its_images(dataset, tmp_path):
    bare = PreparedDataset(dataset.root, dataset.manifest.assign(mask=""))
    detectors = without_masks([*EXAMPLES.values(), Detector(signature="masked")])
    experiment = Experiment(
        bare, load_backbone("tf_efficientnet_lite0"), {"paper": detectors}, SETTINGS, validated=detectors
    )
    tally = experiment.run()
    assert set(tally.frame([d.row() for d in detectors])["level"]) == {"image"} and len(detectors) == 3
    write_examples(experiment, EXAMPLES, "recommended", tmp_path / "maps.npz", count=2)
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
        (
            {"statistic": "padin"},
            "statistic: expected one of padim, ace, .*, found 'padin'",
        ),
        ({"signature": ""}, "signature: expected one of mean, masked, .*, found ''"),
        ({"statistic": "padim"}, "signature: expected one of none, found 'mean'"),
        ({"background": "local"}, "background: .*found 'local'"),
        ({"covariance": "diagonal", "signature": "miace"}, "miace signature: expected a full covariance"),
        ({"signature": "lace", "convention": "published"}, "lace signature"),
        ({"signature": "lace", "images": 0}, "images: expected 1 or more, found 0"),
        ({"channels": "grey"}, "channels: expected one of network, sar, .*found 'grey'"),
        ({"smoothing": -1.0}, "smoothing: expected 0 to 32 pixels, found -1"),
    ):
        with pytest.raises(ValueError, match=said):
            Detector(**wrong)
    with pytest.raises(ValueError, match="convention: expected one of centred, found 'published'"):
        Experiment(dataset, load_backbone("tf_efficientnet_lite0"), {"paper": [TABLES[1]]}, SETTINGS)
