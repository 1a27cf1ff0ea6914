import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from fakes.prepared import write_prepared
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader

from data_prep.prepared import COLUMNS
from padim_ace.detect.backbones import WeightsError, load_backbone
from padim_ace.experiment import anomalib_baselines as models
from padim_ace.experiment import baseline_runs, baselines, embeddings, rx
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.protocols import Draw
from padim_ace.experiment.results import SCORES, read_scores, write_scores

needs_weights = pytest.mark.skipif(
    not os.environ.get("PADIM_ACE_WEIGHTS"), reason="PADIM_ACE_WEIGHTS is not set"
)
SIZE = (128, 128)
SETTINGS = Settings(seeds=(0, 1), image_size=SIZE, batch_size=3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Twelve normals and ten anomalous images of speckle, of two sizes, some released for training."""
    root = tmp_path_factory.mktemp("prepared")
    generator = np.random.default_rng(0)
    rows = []
    for folder in ("normal", "anomalous", "masks"):
        (root / folder).mkdir()
    for label, count in (("anomalous", 10), ("normal", 12)):
        for number in range(count):
            height, width = (128, 128) if number % 2 else (140, 150)
            image = generator.gamma(4, 12, (height, width))
            mask = np.zeros((height, width), np.uint8)
            if label == "anomalous":
                mask[50:62, 60:75] = 255
                image[mask > 0] += 30
                cv2.imwrite(str(root / f"masks/{number}.png"), mask)
            cv2.imwrite(str(root / f"{label}/{number}.png"), image.clip(0, 255).astype(np.uint8))
            split = "test" if number < 6 else "train"
            masked = f"masks/{number}.png" if mask.any() else ""
            row = [
                f"{label}/{number}.png",
                split,
                label,
                masked,
                "",
                "speckle",
                str(number),
                "",
                width,
                height,
                "",
            ]
            rows.append(row)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(root / "manifest.csv", index=False)
    return PreparedDataset.open(root)


@pytest.fixture
def no_hub(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)


def _value(frame, seed, level, metric="auroc"):
    chosen = frame[(frame["seed"] == seed) & (frame["level"] == level) & (frame["metric"] == metric)]
    return chosen["value"].item()


def test_rx_scores_the_maximum_of_the_smoothed_map_of_each_seeds_test_images(dataset):
    tally = baseline_runs.run_rx(dataset, SETTINGS)
    frame = tally.frame([{"detector": name, "smoothing": sigma} for name, sigma in baseline_runs.GREY])
    for draw_number, draw in enumerate(tally.draws):
        roles = dataset.draw_roles(draw.seed, draw.protocol)
        train, test = (np.flatnonzero(roles == role).tolist() for role in ("train", "test"))
        vectors = torch.cat([rx.neighbourhoods(dataset.image(i, SIZE)) for i in train])
        background = rx.shared_background(*rx.products(vectors))
        shared = lambda x, b=background: rx.shared_rx(rx.neighbourhoods(x), b, SIZE)  # noqa: E731
        scores = {"rx": rx.local_rx, "rx_shared": shared, "cfar": rx.cfar}
        for number, (name, sigma) in enumerate(baseline_runs.GREY):
            maps = np.stack(
                [
                    gaussian_filter(scores[name](dataset.image(i, SIZE))[0].numpy(), sigma, mode="mirror")
                    for i in test
                ]
            )
            masks = np.stack([dataset.mask(i, SIZE).numpy() for i in test])
            rows = frame[(frame["detector"] == name) & (frame["smoothing"] == sigma)]
            rows = rows[rows["protocol"] == draw.protocol]
            found = tally.image[draw_number, number, test]
            np.testing.assert_allclose(found, maps.max((1, 2)), rtol=1e-3)
            expected = roc_auc_score(dataset.anomalous[test], maps.max((1, 2)))
            assert _value(rows, draw.seed, "image") == pytest.approx(expected, abs=1e-9)
            expected = roc_auc_score(masks.ravel(), maps.ravel())
            assert _value(rows, draw.seed, "pixel") == pytest.approx(expected, abs=1e-3)


@pytest.fixture
def network(monkeypatch):
    """Random weights in place of those that are asked for."""

    def load(backbone, layers):
        return backbone, load_backbone(f"{backbone}_random", layers=layers).model

    monkeypatch.setattr(models, "load_network", load)
    return load


def test_a_peer_is_what_anomalibs_engine_makes_of_the_same_images(network, monkeypatch, tmp_path):
    from anomalib.data import PredictDataset
    from anomalib.engine import Engine
    from anomalib.models import MHPatchcore, Patchcore

    # of one size: a loader of anomalib's resizes the images of a batch to the largest
    dataset, given = PreparedDataset.open(write_prepared(tmp_path / "prepared", images=8)), {}

    def keep(tally, number, index, scores, maps, settings):
        given.update(zip(index.tolist(), zip(scores, maps, strict=True), strict=True))

    monkeypatch.setattr(models, "_add_resized", keep)
    [*_] = models.run_peers(dataset, Settings(seeds=(0,)), ["mhpatchcore"], ["paper"])
    own = {"post_processor": False, "evaluator": False, "visualizer": False}
    whole = Patchcore.configure_pre_processor((256, 256))  # MHPatchcore's own crops
    model = MHPatchcore(backbone="resnet18", pre_trained=False, pre_processor=whole, **own)
    weights = network("resnet18", ("layer2", "layer3"))[1].state_dict()
    model.model.feature_extractor.feature_extractor.load_state_dict(weights)
    roles = dataset.draw_roles(0, "paper")
    for role in ("train", "test"):
        (tmp_path / role).mkdir()
        for row in np.flatnonzero(roles == role):
            image = dataset.read_grey(dataset.root / dataset.manifest["path"][row])
            cv2.imwrite(str(tmp_path / role / f"{row:03}.png"), image)
    data = {
        role: DataLoader(PredictDataset(tmp_path / role), 32, collate_fn=PredictDataset(tmp_path).collate_fn)
        for role in ("train", "test")
    }
    where = {"default_root_dir": tmp_path / "results", "accelerator": "cpu", "devices": 1}
    engine = Engine(**where, enable_progress_bar=False, logger=False)
    engine.fit(model, train_dataloaders=data["train"])
    (found,) = engine.predict(model, dataloaders=data["test"])
    assert [int(Path(path).stem) for path in found.image_path] == list(given)
    for part, expected in zip(
        zip(*given.values(), strict=True), (found.pred_score, found.anomaly_map), strict=True
    ):
        np.testing.assert_allclose(
            torch.stack(part), expected.view(len(given), *part[0].shape), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("peer", ["dfm_resnet18", "patchcore"])
def test_a_peer_is_anomalibs_model_on_the_same_images_whatever_shares_its_backbone(dataset, network, peer):
    ((name, backbone, tally),) = models.run_peers(dataset, SETTINGS, [peer], ["paper", "scenes"])
    assert (name, backbone) == (peer, "resnet18")
    draw = tally.draws[1]
    roles = dataset.draw_roles(draw.seed, draw.protocol)
    train, test = (np.flatnonzero(roles == role) for role in ("train", "test"))
    torch.manual_seed(draw.seed)
    np.random.seed(draw.seed)  # noqa: NPY002
    model = models.make_peer(peer)
    alone = model.model  # fitted again by anomalib's own forward, on this draw alone
    shuffled = train[torch.randperm(len(train)).numpy()]
    whole = load_backbone("resnet18_random", layers=models.PEERS[peer].layers).model
    alone.feature_extractor.feature_extractor = whole.to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        alone(models.prepared_images(dataset, shuffled, model.pre_processor))
        model.fit()
        alone.eval()
        expected = alone(models.prepared_images(dataset, test, model.pre_processor)).pred_score
    np.testing.assert_allclose(tally.image[1, 0, test], expected.flatten().numpy(), rtol=1e-3)
    assert np.isnan(tally.image[1, 0, train]).all()
    assert {"image", "pixel"} == set(tally.frame([{}])["level"])


def test_what_is_fitted_by_gradients_or_drawn_at_random_is_the_same_again_for_a_seed(
    dataset, network, monkeypatch
):
    fewer = {"fre_resnet18": {"steps": 3}, "patchcore": {"images": 5}}
    for name, changed in fewer.items():
        monkeypatch.setitem(models.PEERS, name, replace(models.PEERS[name], **changed))
        (first, *_), (again, *_) = (
            [tally.image for *_, tally in models.run_peers(dataset, SETTINGS, [name], ["paper"])]
            for _ in range(2)
        )
        np.testing.assert_array_equal(first, again)
        both = np.isfinite(first[:, 0]).all(0)  # tested under both seeds
        assert both.any() and (first[0, 0, both] != first[1, 0, both]).all()


@pytest.mark.parametrize("limit", [0, 2**30])
def test_a_network_sees_an_image_once_if_its_maps_fit_on_the_disk(dataset, network, monkeypatch, limit):
    monkeypatch.setattr(embeddings, "LIMIT", limit)
    pre_processor, seen = models.make_peer("dfm_resnet18").pre_processor, []
    whole = network("resnet18", ["layer3"])[1]
    whole.register_forward_hook(lambda _, given, maps: seen.append(len(given[0])))
    memory = models.Remembering(whole, dataset, pre_processor, 4, "cpu")
    for rows in ([3, 5], [5, 3], [5]):
        (maps,) = memory(memory.show(np.array(rows)))
        (full,) = whole.forward(models.prepared_images(dataset, rows, pre_processor))
        torch.testing.assert_close(
            maps, full.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)), rtol=1e-4, atol=1e-5
        )
    assert seen == ([2] if limit else [2, 2, 1])


def test_the_first_strides_halve_before_the_first_convolution():
    network = timm.create_model("resnet50", features_only=True, out_indices=(2, 3)).eval()
    block, x = network.layer3[0], torch.randn(1, 512, 8, 8)
    torch.nn.init.ones_(block.bn3.weight)  # timm's is zero: the block would be a short cut
    with torch.inference_mode():
        as_timm_has_it = block(x)
        models.with_first_strides(network)
        found = block(x)
        block.conv1.stride = block.downsample[0].stride = (1, 1)
        expected = block(x[:, :, ::2, ::2])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.shape == as_timm_has_it.shape and not torch.allclose(found, as_timm_has_it, rtol=0.1)


@needs_weights
def test_the_weights_of_keras_stand_in_for_those_of_the_hub_with_their_strides(no_hub):
    backbone, network = models.load_network("resnet50", ["layer3"])
    assert backbone == "resnet50_keras" and not network.training
    strides = [
        (stage[0].conv1.stride[0], stage[0].conv2.stride[0]) for stage in (network.layer2, network.layer3)
    ]
    assert strides == [(2, 1), (2, 1)]
    with torch.inference_mode():
        x = torch.randn(1, 3, 64, 64)
        (maps,) = network(x)
        for stage in (network.layer2, network.layer3):
            stage[0].conv1.stride, stage[0].conv2.stride = (1, 1), (2, 2)
        (wrong,) = network(x)
    assert maps.shape == (1, 1024, 4, 4) and (maps - wrong).norm() > 0.3 * maps.norm()


def test_winclip_scores_an_image_alike_for_all_seeds(dataset, tmp_path, monkeypatch):
    open_clip = pytest.importorskip("open_clip")
    from anomalib.models.image.winclip import torch_model

    small = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 240, "layers": 1, "width": 64, "patch_size": 48},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny.json").write_text(json.dumps(small))
    open_clip.add_model_config(tmp_path)
    monkeypatch.setattr(torch_model, "BACKBONE", "tiny")
    monkeypatch.setattr(torch_model, "PRETRAINED", None)
    monkeypatch.setattr(models, "require_weights", lambda *_: None)
    torch.manual_seed(0)
    model = models.load_winclip()
    tally = models.run_winclip(dataset, SETTINGS, model)
    first, second = (tally.draws.index(Draw("paper", seed)) for seed in SETTINGS.seeds)
    test = [np.flatnonzero(tally.roles[number] == "test") for number in (first, second)]
    both = np.intersect1d(*test)
    assert len(both)
    np.testing.assert_array_equal(tally.image[first, 0, both], tally.image[second, 0, both])
    one = int(test[0][0])
    with torch.inference_mode():
        expected = model.model(models.prepared_images(dataset, [one], model.pre_processor)).pred_score
    assert tally.image[first, 0, one] == pytest.approx(float(expected), rel=1e-4)
    assert set(tally.frame([{}])["level"]) == {"image", "pixel"}


@pytest.mark.parametrize("load", [lambda: models.load_network("resnet50", ["layer3"]), models.load_winclip])
def test_missing_weights_are_one_line_that_says_what_to_do(no_hub, monkeypatch, load):
    monkeypatch.delenv("PADIM_ACE_WEIGHTS", raising=False)
    with pytest.raises(
        WeightsError, match="expected weights timm/.*ConnectionError: no network.*HF_HOME"
    ) as error:
        load()
    assert "\n" not in str(error.value)


def test_what_has_no_weights_is_recorded_as_not_run(dataset, no_hub, tmp_path, monkeypatch):
    monkeypatch.delenv("PADIM_ACE_WEIGHTS", raising=False)
    frame, missing = baseline_runs.run_baselines(dataset, "speckle", SETTINGS, "make book")
    write_scores(frame, tmp_path / "scores.csv")
    found = read_scores(tmp_path / "scores.csv")
    assert set(found["detector"]) == {"rx", "rx_shared", "cfar"} and list(found.columns) == list(SCORES)
    assert len(found) == 6 * 2 * 2 * 7  # detectors × protocols × seeds × (3 image and 4 pixel metrics)
    assert list(missing) == list(baselines.NOT_RUN)
    assert missing[["dataset", "detector", "backbone"]].to_numpy().tolist() == [
        ["speckle", "dfm", "resnet50"],
        ["speckle", "dfm_resnet18", "resnet18"],
        ["speckle", "winclip", "vit_b_16_plus_240"],
    ]
    assert missing["reason"].str.contains("HF_HOME|PADIM_ACE_WEIGHTS").all() and missing[
        "command"
    ].tolist() == ["make rivals", "make book", "make book"]
