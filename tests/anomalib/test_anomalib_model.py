"""PadimAce in anomalib: as anomalib tests its own models, and against dense float64 oracles."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import jaxtyping
import jupytext
import numpy as np
import pytest
import scipy
import torch
from anomalib.data import Folder, ImageItem
from anomalib.data.datasets.image.folder import FolderDataset
from anomalib.data.utils import read_image
from anomalib.deploy import OpenVINOInferencer, TorchInferencer
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from anomalib.models import Padim
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.transforms.v2 import Compose, Normalize, Resize

import padim_ace.detect.backbones
from padim_ace import PadimAce
from padim_ace.anomalib.processing import AcePostProcessor, resize_matrix
from padim_ace.detect.pyramid import flatten

CHAPTER = Path(__file__).parents[2] / "notebooks/use_your_own.py"
SIZE = (64, 96)
KINDS = [
    {"background": "patch", "signature": "mined", "mined_patches": 4},
    {"background": "patch", "signature": "subspace", "dimensions": 3, "statistic": "glrt"},
    {"background": "shared", "signature": "masked"},
    {"background": "pooled", "signature": "mean"},
    {"covariance": "diagonal", "signature": "mean"},
    {"covariance": "isotropic", "aggregation": "trace", "signature": "mean"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Grey images of 80 x 120 pixels: smoothed speckle, and the same with a bright ellipse."""
    generator = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("folder")
    for name in ("normal", "anomalous", "masks", "others", "other_masks"):
        (root / name).mkdir()

    def clutter():
        return cv2.GaussianBlur(generator.exponential(60, (80, 120)).astype(np.float32), (0, 0), 1)

    for i in range(15):
        cv2.imwrite(str(root / "normal" / f"n{i:02}.png"), clutter().clip(0, 255).astype(np.uint8))
    for i in range(14):
        mask = np.zeros((80, 120), np.uint8)
        centre = generator.integers((20, 20), (100, 60)).tolist()
        cv2.ellipse(mask, centre, (12, 5), float(generator.integers(180)), 0, 360, 255, -1)
        image = (clutter() + 150 * (mask > 0)).clip(0, 255).astype(np.uint8)
        images, masks = ("anomalous", "masks") if i < 10 else ("others", "other_masks")
        cv2.imwrite(str(root / images / f"a{i:02}.png"), image)
        cv2.imwrite(str(root / masks / f"a{i:02}.png"), mask)
    return root


def data(folder, kind=Folder, **arguments):
    defaults = {"abnormal_dir": "anomalous", "mask_dir": "masks", "seed": 0, "num_workers": 0}
    sizes = {"train_batch_size": 4, "eval_batch_size": 4}
    return kind("fake", "normal", root=folder, **defaults | sizes | arguments)


def model(**arguments):
    """A small one: two stages of a ResNet-18 with random weights, always the same."""
    torch.manual_seed(0)
    defaults = {"layers": ["layer1", "layer2"], "pre_trained": False, "n_features": 30, "visualizer": False}
    sizes = {"pre_processor": PadimAce.configure_pre_processor(SIZE)}
    return PadimAce(**defaults | sizes | arguments)


def engine(root, **arguments):
    return Engine(
        default_root_dir=root,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"devices": 1} | arguments,
    )


def images_of(paths):
    """Preprocessed images."""
    resize = Resize(SIZE, antialias=True)
    return torch.stack([resize(read_image(path, as_tensor=True)) for path in paths])


def held_out(module):
    return images_of(module.test_data.samples.image_path)


def cosines(fitted, images):
    """Maps and scores before any post-processing."""
    predicted = fitted.model(images)
    return predicted.anomaly_map, predicted.pred_score


def dense(fitted, images):
    """The kept features at every patch, as PaDiM lays them out, in float64: [patch, image, feature]."""
    return flatten(fitted.model._embed(images)).double().numpy()


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The default detector on a backbone with real weights, with its data and its checkpoint."""
    fitted = model(backbone="tf_efficientnet_lite0", layers=None, pre_trained=True, n_features=100)
    module, runner = data(folder), engine(tmp_path_factory.mktemp("trained"))
    runner.fit(fitted, datamodule=module)
    return fitted.eval(), module, runner.trainer.checkpoint_callback.best_model_path


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def kind(request, folder, tmp_path_factory):
    """A detector trained by the Engine with a folder of signature images."""
    masks = folder / "other_masks" if request.param["signature"] == "masked" else None
    fitted = model(signature_images=folder / "others", signature_masks=masks, **request.param)
    module, runner = data(folder), engine(tmp_path_factory.mktemp("kind"))
    runner.fit(fitted, datamodule=module)
    return request.param, fitted.eval(), module, runner


def test_the_package_imports_without_anomalib():
    code = "import sys, padim_ace; assert not {'torch', 'anomalib'} & set(sys.modules); padim_ace.nope"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        done.returncode == 1 and "AttributeError: module 'padim_ace' has no attribute 'nope'" in done.stderr
    )


def test_it_takes_the_arguments_of_anomalibs_padim_in_their_order_and_documents_all():
    ours, padims = (inspect.signature(kind).parameters for kind in (PadimAce, Padim))
    assert list(ours)[:4] == list(padims)[:4]
    assert [name for name in ours if name in padims] == list(padims)
    # layers: by default those of the backbone, where PaDiM's are a ResNet's
    assert all(ours[name].default == padims[name].default for name in padims if name != "layers")
    arguments = PadimAce.__init__.__doc__.partition("Raises:")[0]
    documented = re.findall(r"^ {12}(\w+): ", arguments, re.MULTILINE)
    assert documented == list(ours)


def test_validate_test_and_predict(kind):
    _, fitted, module, runner = kind
    runner.validate(fitted, datamodule=module, verbose=False)
    (metrics,) = runner.test(fitted, datamodule=module, verbose=False)
    assert set(metrics) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    maps, scores = cosines(fitted, held_out(module))
    assert maps.shape[1:] == (1, *SIZE) and maps.abs().max() <= 1
    torch.testing.assert_close(scores, maps.amax((1, 2, 3)))
    # what anomalib reports are the metrics of the cosines themselves: no clamp, no sigmoid came between
    labels = (module.test_data.samples.label_index == 1).to_numpy()
    assert metrics["image_AUROC"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    masks = Resize(SIZE, interpolation=0)(
        torch.stack([module.test_data[i].gt_mask for i in range(len(labels))])
    )
    assert metrics["pixel_AUROC"] == pytest.approx(roc_auc_score(masks.ravel() > 0, maps.ravel()), abs=1e-5)
    predicted = torch.cat([batch.pred_score for batch in runner.predict(fitted, datamodule=module)])
    assert (scores[predicted.argsort()].diff() >= -1e-6).all()
    assert ((predicted > 0.5) == (scores > fitted.post_processor.image_threshold)).all()


def test_anomalibs_own_components_take_the_place_of_the_defaults(folder, tmp_path):
    evaluator = Evaluator(test_metrics=[AUROC(fields=["pred_score", "gt_label"])])
    fitted = model(post_processor=PostProcessor(), evaluator=evaluator, visualizer=True)
    module, runner = data(folder), engine(tmp_path)
    runner.fit(fitted, datamodule=module)
    (metrics,) = runner.test(fitted, datamodule=module, verbose=False)
    assert set(metrics) == {"AUROC"} and list(tmp_path.rglob("images/anomalous/*.png"))
    predicted = torch.cat([batch.pred_score for batch in runner.predict(fitted, datamodule=module)])
    _, validation = cosines(fitted, images_of(module.val_data.samples.image_path))
    _, scores = cosines(fitted, held_out(module))
    threshold, spread = fitted.post_processor.image_threshold, validation.max() - validation.min()
    expected = ((scores - threshold) / spread + 0.5).clamp(0, 1)
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=0)


def farthest(white, count):
    """Of each image the patches of the largest length, at length 1: [patch, feature]."""
    length = np.linalg.norm(white, axis=-1)
    rows = [white[n.argsort()[-count:], image] for image, n in enumerate(length.T)]
    return np.concatenate([row / np.linalg.norm(row, axis=-1, keepdims=True) for row in rows])


def test_maps_are_those_of_a_dense_oracle(kind, folder):
    what, fitted, module, _ = kind
    files = sorted((folder / "others").iterdir())
    normal = dense(fitted, images_of(module.train_data.samples.image_path))
    features = normal.shape[2]
    mean = normal.mean(1)
    covariance = np.stack([np.cov(place.T) for place in normal])
    if what.get("background") == "shared":
        mean = np.broadcast_to(normal.mean((0, 1)), mean.shape)
        covariance = np.broadcast_to(np.cov(normal.reshape(-1, features).T), covariance.shape)
    elif what.get("background") == "pooled":
        covariance = np.broadcast_to(covariance.mean(0), covariance.shape)
    covariance = covariance + 0.01 * np.eye(features)
    if what.get("covariance") == "diagonal":
        covariance = covariance * np.eye(features)
    elif what.get("covariance") == "isotropic":
        covariance = np.broadcast_to(np.eye(features), covariance.shape)
    factor = np.linalg.inv(np.linalg.cholesky(covariance))

    def white_of(embeddings):
        return np.einsum("pij,pnj->pni", factor, embeddings - mean[:, None])

    def white(images):
        return white_of(dense(fitted, images))

    target, grid = white(images_of(files)), fitted.model.embedder.grid
    if what["signature"] == "subspace":  # the projection on it is at one place what a signature is
        targets, clutter = (farthest(w, 16) for w in (target, white_of(normal)))
        loaded = clutter.T @ clutter / len(clutter) + np.eye(features) / features
        signature = scipy.linalg.orth(scipy.linalg.eigh(targets.T @ targets, loaded)[1][:, -3:])
    elif what["signature"] == "mean":
        signature = target.mean(1)[:, None]
    else:
        length = np.linalg.norm(target, axis=-1)
        weights = np.zeros_like(length)
        if what["signature"] == "mined":
            for image, column in enumerate(length.T):
                weights[column.argsort()[-4:], image] = 1
        else:
            masks = torch.from_numpy(
                np.stack([cv2.imread(f"{folder}/other_masks/{f.name}", 0) for f in files])
            )
            masks = Resize(SIZE, interpolation=0)(masks) > 0
            cells = masks.float().reshape(len(files), grid[0], SIZE[0] // grid[0], grid[1], -1).mean((2, 4))
            for raster, place in enumerate(fitted.model.embedder.raster):
                weights[place] = cells.flatten(1)[:, raster]
        signature = np.einsum("pni,pn->i", target / length[..., None], weights)
    x = white(held_out(module))
    if what["signature"] == "subspace":
        cosine = np.linalg.norm(x @ signature, axis=-1) / np.sqrt(normal.shape[1] + (x**2).sum(-1))
    else:
        cosine = (x * signature).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(signature, axis=-1)
    # block order to raster, then anomalib's own upsampling and smoothing
    generator = AnomalyMapGenerator()
    coarse = torch.from_numpy(cosine)[fitted.model.embedder.raster].T.reshape(-1, 1, *grid).float()
    expected = generator.smooth_anomaly_map(generator.up_sample(coarse, SIZE))
    found, _ = cosines(fitted, held_out(module))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_a_state_dict_brings_everything(trained):
    fitted, module, _ = trained
    images = held_out(module)
    # of another image size, seed and weights: all of it comes with the state
    other = model(backbone="tf_efficientnet_lite0", layers=None, n_features=100, seed=3, pre_processor=True)
    other.load_state_dict(fitted.state_dict())
    torch.testing.assert_close(cosines(other, images), cosines(fitted, images), atol=0, rtol=0)


def test_a_checkpoint_loads_with_no_weights_at_hand(trained, monkeypatch):
    fitted, module, path = trained
    monkeypatch.setattr(padim_ace.detect.backbones, "_from_package", lambda *_: "gone")
    stored = torch.load(path, weights_only=True)
    assert stored["hyper_parameters"]["signature_images"] is None
    loaded = PadimAce.load_from_checkpoint(path, visualizer=False).eval()
    assert loaded.input_size == SIZE
    images = torch.rand(2, 3, 80, 120)
    torch.testing.assert_close(loaded(images)._asdict(), fitted(images)._asdict(), atol=0, rtol=0)
    (metrics,) = engine(Path(path).parent).test(loaded, datamodule=module, verbose=False)
    scores = cosines(fitted, held_out(module))[1]
    labels = (module.test_data.samples.label_index == 1).to_numpy()
    assert metrics["image_AUROC"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)


FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
"""OpenVINO computes in bfloat16 by itself on processors that have it, and scores then move by 0.004."""


@pytest.mark.parametrize("kind", ["torch", "onnx", "openvino"])
def test_an_exported_model_predicts_what_the_engine_does(
    kind, exported, folder, tmp_path, monkeypatch, no_type_checks
):
    fitted, runner = exported
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    monkeypatch.chdir(tmp_path)  # the inferencer writes a cache where it is
    path = runner.export(fitted, kind, export_root=tmp_path)
    inferencer = TorchInferencer(path, "cpu") if kind == "torch" else OpenVINOInferencer(path, "CPU", FLOAT32)
    file = folder / "anomalous" / "a03.png"
    (expected,) = runner.predict(fitted, data_path=file)
    found = inferencer.predict(file)
    assert {80, 120} < set(found.image.shape)  # the resize, antialiased, is in the exported model
    for field in ("pred_score", "anomaly_map"):
        values = np.asarray(getattr(found, field)).squeeze()
        np.testing.assert_allclose(values, np.asarray(getattr(expected, field)).squeeze(), atol=1e-5)
    assert bool(np.asarray(found.pred_label).squeeze()) == bool(expected.pred_label)
    assert (np.asarray(found.pred_mask).squeeze() != np.asarray(expected.pred_mask).squeeze()).sum() <= 1


@pytest.fixture
def no_type_checks():
    """jaxtyping's checks would fix the batch size in the graph."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_every_kind_exports_as_a_graph(kind, no_type_checks):
    """ONNX and OPENVINO are translations of this graph."""
    _, fitted, _, _ = kind
    images = torch.rand(2, 3, 80, 120)
    graph = torch.export.export(fitted, (images,), strict=False).module()
    torch.testing.assert_close(graph(images)._asdict(), fitted(images)._asdict(), atol=1e-5, rtol=0)


def test_without_a_pre_processor_it_exports_for_the_images_that_it_was_fitted_on(
    folder, tmp_path, monkeypatch, no_type_checks
):
    monkeypatch.chdir(tmp_path)
    fitted, runner = model(pre_processor=False), engine(tmp_path)
    runner.fit(fitted, datamodule=data(folder))
    file = folder / "anomalous" / "a03.png"
    (expected,) = runner.predict(fitted, data_path=file)
    path = runner.export(fitted, "onnx", export_root=tmp_path)
    found = OpenVINOInferencer(path, "CPU", FLOAT32).predict(file)
    np.testing.assert_allclose(found.anomaly_map.squeeze(), expected.anomaly_map.squeeze(), atol=1e-5)


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """Small, as an export's time goes by the number of the backbone's operations."""
    fitted, runner = model(), engine(tmp_path_factory.mktemp("exported"))
    runner.fit(fitted, datamodule=data(folder))
    return fitted, runner


@pytest.mark.parametrize(("inputs", "outputs"), [(80, 64), (64, 80), (97, 33), (256, 256), (1, 4), (400, 7)])
def test_resize_matrix_is_torchvisions_antialiased_resize(inputs, outputs):
    rows = torch.rand(3, 1, 1, inputs)
    expected = F.interpolate(rows, size=(1, outputs), mode="bilinear", antialias=True)
    torch.testing.assert_close(rows @ resize_matrix(inputs, outputs).T, expected, atol=1e-5, rtol=0)


def test_post_processing_is_strictly_increasing_from_0_to_1_with_the_threshold_at_one_half():
    processor = AcePostProcessor()
    cosine = torch.linspace(-1, 1, 401)
    nan = torch.tensor(torch.nan)
    for threshold in (nan, *torch.tensor([-0.9, 0.0, 0.4, 1.0])):
        scores = processor._normalize(cosine, nan, nan, threshold)
        assert scores[0] == 0 and scores[-1] == (1 if threshold != 1 else 0.5)
        assert (scores.diff() > 0).all()
        at = torch.zeros(1) if threshold.isnan() else threshold.view(1)
        assert processor._normalize(at, nan, nan, threshold) == 0.5


def test_memory_of_a_fit_does_not_grow_with_the_images():
    module = model().model
    sizes = []
    for _ in range(3):
        module.update(torch.rand(4, 3, *SIZE))
        state = module.moments.state()
        tensors = [*state["shift"], *state["total"], *state["products"]["own"], *state["products"]["cross"]]
        sizes.append(sum(tensor.numel() for tensor in tensors))
    assert module.moments.count == 12 and len(set(sizes)) == 1


def test_a_second_fit_forgets_the_first_and_seeds_reproduce(folder, tmp_path):
    fitted, module = model(), data(folder)
    engine(tmp_path).fit(fitted, datamodule=data(folder, seed=5))
    engine(tmp_path).fit(fitted, datamodule=module)
    fresh = model()
    engine(tmp_path).fit(fresh, datamodule=module)
    images = held_out(module)
    torch.testing.assert_close(cosines(fitted, images), cosines(fresh, images), atol=1e-6, rtol=0)
    assert not torch.equal(model(seed=1).model.index, fresh.model.index)


class Items(Dataset):
    def __init__(self, root):
        self.paths = sorted(root.iterdir())

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        return ImageItem(image=read_image(path, as_tensor=True), image_path=str(path))


class MixedTraining(Folder):
    """A data module whose training set has anomalous images too."""

    def _create_val_split(self):
        super()._create_val_split()
        others = {"abnormal_dir": "others", "mask_dir": "other_masks", "split": "test"}
        self.train_data += FolderDataset("fake", "normal", root=self.root, **others)


def test_signature_images_come_from_a_folder_a_dataset_or_the_training_set(folder, tmp_path):
    results = []
    for source, kind in (
        (folder / "others", Folder),
        (Items(folder / "others"), Folder),
        (None, MixedTraining),
    ):
        fitted, module = model(signature_images=source), data(folder, kind)
        runner = engine(tmp_path)
        runner.fit(fitted, datamodule=module)
        results.append(cosines(fitted, held_out(module)))
        stored = torch.load(runner.trainer.checkpoint_callback.best_model_path, weights_only=True)
        kept = stored["hyper_parameters"]["signature_images"]
        assert kept == (str(source) if isinstance(source, Path) else None)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-6, rtol=0)


def test_the_test_sets_images_make_no_signature_unless_asked(folder, tmp_path):
    same = data(folder, val_split_mode="same_as_test")
    with pytest.raises(ValueError, match="none of the test set, found 10 in the validation set"):
        engine(tmp_path).fit(model(), datamodule=same)
    with pytest.warns(
        UserWarning, match="none of the test set, found 5 in .*anomalous; test metrics will be"
    ):
        engine(tmp_path).fit(model(signature_images=folder / "anomalous"), datamodule=data(folder))


def test_a_normalising_pre_processor_normalises_once(folder, tmp_path):
    plain = model()
    mean, std = (getattr(plain.model.embedder.backbone, name).flatten().tolist() for name in ("mean", "std"))
    resize = Resize(SIZE, antialias=True)
    other = model(pre_processor=PreProcessor(Compose([resize, Normalize(mean, std)])))
    for fitted in (plain, other):
        runner = engine(tmp_path)
        runner.fit(fitted, datamodule=data(folder))
    loaded = PadimAce.load_from_checkpoint(runner.trainer.checkpoint_callback.best_model_path)
    images = torch.rand(2, 3, 80, 120)
    for fitted in (other, loaded):
        torch.testing.assert_close(
            fitted(images).anomaly_map, plain.eval()(images).anomaly_map, atol=1e-5, rtol=0
        )


def test_grey_images_and_bfloat16(trained):
    fitted, module, _ = trained
    images = held_out(module)
    maps, _ = cosines(fitted, images)
    torch.testing.assert_close(cosines(fitted, images[:, :1])[0], maps, atol=1e-6, rtol=0)
    fitted.model.precision = "bfloat16"
    rough, _ = cosines(fitted, images)
    fitted.model.precision = "float32"
    assert (
        0 < (rough - maps).abs().max() < 0.2
        and torch.corrcoef(torch.stack([rough.ravel(), maps.ravel()]))[0, 1] > 0.98
    )


def test_any_image_size_without_a_pre_processor(folder, tmp_path):
    """80 x 120 pixels: layer2's grid is no multiple of layer3's, so all stages share the finest grid."""
    fitted = model(pre_processor=False, layers=["layer2", "layer3"])
    engine(tmp_path).fit(fitted, datamodule=data(folder))
    assert fitted.model.embedder.image_size == (80, 120) and not fitted.model.embedder.nested
    maps, _ = cosines(fitted, torch.rand(2, 3, 80, 120))
    assert maps.shape == (2, 1, 80, 120)
    with pytest.raises(ValueError, match="images: expected 80 x 120 pixels, found 96 x 96"):
        fitted.model(torch.rand(2, 3, 96, 96))
    other = model(layers=["layer2", "layer3"])
    other.load_state_dict(fitted.state_dict())
    images = torch.rand(2, 3, 80, 120)
    torch.testing.assert_close(cosines(other, images), cosines(fitted, images), atol=0, rtol=0)


def test_two_processes_make_the_model_of_one(folder, tmp_path):
    """11 training images: a distributed sampler repeats one, which must not count twice."""
    module = data(folder, test_split_ratio=0.3)
    one, two = (model(signature="subspace", statistic="glrt") for _ in range(2))
    engine(tmp_path).fit(one, datamodule=module)
    engine(tmp_path, strategy="ddp_spawn", devices=2).fit(two, datamodule=data(folder, test_split_ratio=0.3))
    assert len(module.train_data) == 11
    images = held_out(module)
    torch.testing.assert_close(cosines(two, images), cosines(one, images), atol=1e-5, rtol=0)


def test_any_timm_model_with_named_layers():
    fitted = model(backbone="resnet10t", layers=["layer2", "layer1"]).eval()
    assert fitted.model.embedder.backbone.layers == ["layer1", "layer2"]
    fitted.model.update(torch.rand(3, 3, *SIZE))
    fitted.model.fit([(torch.rand(2, 3, *SIZE), None)])
    assert cosines(fitted, torch.rand(2, 3, *SIZE))[0].isfinite().all()


BAD_ARGUMENTS = [
    (
        {"backbone": "nope"},
        "backbone: expected one of resnet18, .* or a timm model with layers, found 'nope'",
    ),
    (
        {"layers": ["layer1", "layer9"]},
        r"layers: expected some of act1, layer1.*, found \['layer1', 'layer9'\]",
    ),
    ({"n_features": 193}, r"n_features: expected 1 to 192 \(the backbone's channels\), found 193"),
    ({"background": "none"}, "background: expected one of patch, pooled, shared, found 'none'"),
    ({"covariance": "round"}, "covariance: expected full, diagonal or isotropic, found 'round'"),
    (
        {"signature": "best"},
        "signature: expected one of mean, masked, mined, contrast, subspace, found 'best'",
    ),
    ({"covariance": "diagonal"}, "signature: expected mean for a diagonal covariance, found 'mined'"),
    ({"precision": "float16"}, "precision: expected one of float32, bfloat16, found 'float16'"),
    ({"pre_trained": True, "weights": "net"}, "weights source: expected auto, folder.*, found 'net'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS, ids=lambda value: str(value)[:30])
def test_an_argument_that_is_not_allowed_is_told_what_is(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        model(**arguments)
    assert "\n" not in str(error.value)


def test_training_sets_that_are_not_enough(folder, tmp_path):
    def fit(message, arguments=None, **module):
        with pytest.raises(ValueError, match=message) as error:
            engine(tmp_path).fit(model(**arguments or {}), datamodule=data(folder, **module))
        assert "\n" not in str(error.value)

    none = (
        "expected anomalous images in the training or validation set, found none; set signature_images to a"
    )
    fit(none, abnormal_dir=None, mask_dir=None)
    fit(
        "masks with .*others, found none; add signature_masks",
        {"signature": "masked", "signature_images": folder / "others"},
    )
    fit("nowhere: expected a folder of images, found none", {"signature_images": folder / "nowhere"})
    masked = {
        "signature": "masked",
        "signature_images": folder / "others",
        "signature_masks": folder / "masks",
    }
    fit(r"a10.png: expected a mask a10\.\* in .*masks, found none; add it", masked)
    fit("background: expected at least 2 normal images, found 1; add images", test_split_ratio=14 / 15)
    for name, arguments in (("normal", {}), ("others", {"signature_images": folder / "others"})):
        blank = folder / name / "n99.png"
        cv2.imwrite(str(blank), np.full((80, 120), 51, np.uint8))
        try:
            message = "n99.png: expected pixels that differ, found 0.2 everywhere; remove it"
            fit(message, arguments, test_split_ratio=1 / 16)
        finally:
            blank.unlink()


def test_scoring_before_a_fit_says_so():
    with pytest.raises(
        ValueError, match="expected a fitted model, found none; call fit or load a checkpoint"
    ):
        model().eval()(torch.rand(1, 3, 80, 120))


def test_the_command_lines_of_the_chapter_run_as_they_are_pasted(folder, tmp_path):
    """On 16-bit TIFF files, which the preparation brings into shape."""
    for name in ("normal", "anomalous", "masks"):
        (tmp_path / "my_images" / name).mkdir(parents=True)
        for file in (folder / name).iterdir():
            image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            deep = image if name == "masks" else 100 * image.astype(np.uint16)
            cv2.imwrite(str(tmp_path / "my_images" / name / f"{file.stem}.tif"), deep)
    shutil.copy(folder / "others" / "a10.png", tmp_path / "new_image.png")
    prose = [cell.source for cell in jupytext.read(CHAPTER).cells if cell.cell_type == "markdown"]
    script = "".join(re.findall(r"```bash\n(.*?)```", "\n".join(prose), re.DOTALL))
    verbs = re.findall(r"^(?:anomalib|python -m) (\w+)", script, re.MULTILINE)
    assert verbs == ["data_prep", "train", "test", "predict", "export"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": path}
    command = ["bash", "-e", "-c", script]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    prepared = cv2.imread(str(tmp_path / "prepared/my_images/anomalous/a00.png"), cv2.IMREAD_UNCHANGED)
    assert prepared.shape == (80, 120) and prepared.dtype == np.uint8
    trained, tested = re.findall(r"pixel_AUROC\D+([\d.]+)", done.stdout)
    assert trained == tested and float(trained) > 0.9
    images, onnx = re.findall(r"`(results/\S+)`", "\n".join(prose))
    assert list((tmp_path / images).rglob("new_image.png"))
    files = sorted(path.name for path in (tmp_path / onnx).iterdir())
    assert files == ["model.onnx", "model.onnx.data"]
