import json
from dataclasses import astuple

import cv2
import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from data_prep.prepared import COLUMNS
from padim_ace.detect.backbones import WeightsError
from padim_ace.experiment import anomalib_baselines as models
from padim_ace.experiment import baselines, rx, rx_run
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Settings
from padim_ace.experiment.protocols import Draw
from padim_ace.experiment.results import SCORES, read_scores, write_scores

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
    tally = rx_run.run_rx(dataset, SETTINGS)
    frame = tally.frame([{"detector": "rx"}, {"detector": "rx_shared"}])
    for draw_number, draw in enumerate(tally.draws):
        roles = dataset.draw_roles(draw.seed, draw.protocol)
        train, test = (np.flatnonzero(roles == role).tolist() for role in ("train", "test"))
        vectors = torch.cat([rx.neighbourhoods(dataset.image(i, SIZE)) for i in train])
        background = rx.shared_background(*rx.products(vectors))
        scores = (rx.local_rx, lambda x, b=background: rx.shared_rx(rx.neighbourhoods(x), b, SIZE))
        for number, (name, score) in enumerate(zip(("rx", "rx_shared"), scores, strict=True)):
            maps = np.stack(
                [
                    gaussian_filter(score(dataset.image(i, SIZE))[0].numpy(), 4, mode="mirror", truncate=4)
                    for i in test
                ]
            )
            masks = np.stack([dataset.mask(i, SIZE).numpy() for i in test])
            rows = frame[(frame["detector"] == name) & (frame["protocol"] == draw.protocol)]
            found = tally.image[draw_number, number, test]
            np.testing.assert_allclose(found, maps.max((1, 2)), rtol=1e-3)
            expected = roc_auc_score(dataset.anomalous[test], maps.max((1, 2)))
            assert _value(rows, draw.seed, "image") == pytest.approx(expected, abs=1e-9)
            expected = roc_auc_score(masks.ravel(), maps.ravel())
            assert _value(rows, draw.seed, "pixel") == pytest.approx(expected, abs=1e-3)


def test_dfm_is_anomalibs_model_on_the_same_images_whatever_shares_its_backbone(dataset):
    torch.manual_seed(0)
    model = models.load_dfm(pre_trained=False)
    tally = models.run_dfm(dataset, SETTINGS, model)
    roles = dataset.draw_roles(*astuple(tally.draws[1])[::-1])
    train, test = (np.flatnonzero(roles == role).tolist() for role in ("train", "test"))
    alone = model.model  # fitted again by anomalib's own forward, on this seed alone
    with torch.inference_mode():
        alone.memory_bank = []
        alone.train()
        alone.feature_extractor.eval()
        alone(models.prepared_images(dataset, train, model.pre_processor))
        alone.fit()
        alone.eval()
        expected = torch.cat(
            [
                alone(models.prepared_images(dataset, [i], model.pre_processor)).pred_score.flatten()
                for i in test
            ]
        )
    np.testing.assert_allclose(tally.image[1, 0, test], expected.numpy(), rtol=1e-3)
    assert np.isnan(tally.image[1, 0, train]).all()
    assert {"image", "pixel"} == set(tally.frame([{}])["level"])


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


@pytest.mark.parametrize("load", [models.load_dfm, models.load_winclip])
def test_missing_weights_are_one_line_that_says_what_to_do(no_hub, load):
    with pytest.raises(
        WeightsError, match="expected weights timm/.*ConnectionError: no network.*HF_HOME"
    ) as error:
        load()
    assert "\n" not in str(error.value)


def test_what_has_no_weights_is_recorded_as_not_run(dataset, no_hub, tmp_path):
    frame, missing = baselines.run_baselines(dataset, "speckle", SETTINGS, "make book")
    write_scores(frame, tmp_path / "scores.csv")
    found = read_scores(tmp_path / "scores.csv")
    assert set(found["detector"]) == {"rx", "rx_shared"} and list(found.columns) == list(SCORES)
    assert len(found) == 2 * 2 * 2 * 7  # detectors × protocols × seeds × (3 image and 4 pixel metrics)
    assert list(missing) == list(baselines.NOT_RUN)
    assert missing[["dataset", "detector", "backbone"]].to_numpy().tolist() == [
        ["speckle", "dfm", "resnet50"],
        ["speckle", "winclip", "vit_b_16_plus_240"],
    ]
    assert missing["reason"].str.contains("HF_HOME").all() and (missing["command"] == "make book").all()
