"""What PadimAce computes, for each kind of detector, against dense float64 oracles."""

import subprocess
import sys

import cv2
import jaxtyping
import numpy as np
import pytest
import torch
from anomalib.deploy import OpenVINOInferencer
from anomalib.metrics import AUROC, Evaluator
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from sklearn.metrics import average_precision_score, roc_auc_score
from small import FLOAT32, SIZE, cosines, data, engine, held_out, images_of, model
from torch.nn import functional as F
from torchvision.transforms.v2 import Compose, Normalize, Resize

from padim_ace import PadimAce
from padim_ace.anomalib.export import resize_matrix
from padim_ace.detect.pyramid import flatten
from padim_ace.detect.signature import learn

KINDS = [
    {"preset": "recommended", "signature": "lace"},
    {"statistic": "glrt", "signature": "miace", "channels": "without_grey"},
    {"background": "shared", "signature": "masked"},
    {"signature": "mean"},
    {"covariance": "diagonal", "signature": "mean"},
    {"covariance": "isotropic", "signature": "mean"},
]


def dense(fitted, images):
    """The kept features at every patch, as PaDiM lays them out, in float64: [patch, image, feature]."""
    return flatten(fitted.model._embed(images)).double().numpy()


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
    assert done.returncode == 1 and "AttributeError" in done.stderr


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
    assert metrics["pixel_AUROC"] == pytest.approx(roc_auc_score(planted(module), maps.ravel()), abs=1e-5)
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
    paths = module.val_data.samples.image_path
    _, validation = cosines(fitted, images_of([p for p in paths if not fitted._signature.took(p)]))
    _, scores = cosines(fitted, held_out(module))
    threshold, spread = fitted.post_processor.image_threshold, validation.max() - validation.min()
    expected = ((scores - threshold) / spread + 0.5).clamp(0, 1)
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=0)


def farthest(white):
    """Of each image the 16 patches of the largest length: [image, patch, feature]."""
    length = np.linalg.norm(white, axis=-1)
    return torch.from_numpy(np.stack([white[n.argsort()[:-17:-1], i] for i, n in enumerate(length.T)]))


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
    if what["signature"] in ("lace", "miace"):
        bags = farthest(target), farthest(white_of(normal))
        signature = learn(what["signature"], *bags, normal.shape[1]).numpy()
    elif what["signature"] == "mean":
        signature = target.mean(1)[:, None]
    else:
        length = np.linalg.norm(target, axis=-1)
        weights = np.zeros_like(length)
        masks = torch.from_numpy(np.stack([cv2.imread(f"{folder}/other_masks/{f.name}", 0) for f in files]))
        masks = Resize(SIZE, interpolation=0)(masks) > 0
        cells = masks.float().reshape(len(files), grid[0], SIZE[0] // grid[0], grid[1], -1).mean((2, 4))
        for raster, place in enumerate(fitted.model.embedder.raster):
            weights[place] = cells.flatten(1)[:, raster]
        signature = np.einsum("pni,pn->i", target / length[..., None], weights)
    x = white(held_out(module))
    along, energy = (x * signature).sum(-1) / np.linalg.norm(signature, axis=-1), (x**2).sum(-1)
    if what["signature"] == "lace":
        cosine = np.sqrt((0.95 * along.clip(0) ** 2 + 0.05 * energy) / (normal.shape[1] + energy))
    else:
        cosine = along / np.sqrt(energy + normal.shape[1] * (what["signature"] == "miace"))
    # block order to raster, then anomalib's own upsampling and smoothing
    generator = AnomalyMapGenerator(sigma=2 if "preset" in what else 4)
    coarse = torch.from_numpy(cosine)[fitted.model.embedder.raster].T.reshape(-1, 1, *grid).float()
    expected = generator.smooth_anomaly_map(generator.up_sample(coarse, SIZE))
    found, _ = cosines(fitted, held_out(module))
    atol = 5e-4 if what["signature"] == "lace" else 2e-5  # a regression stops a little short of its end
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


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


@pytest.mark.parametrize("kind", KINDS[:1], indirect=True, ids=["recommended"])
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_what_we_recommend_exports(kind, form, folder, tmp_path, monkeypatch, no_type_checks):
    monkeypatch.chdir(tmp_path)
    _, fitted, _, runner = kind
    inferencer = OpenVINOInferencer(runner.export(fitted, form, export_root=tmp_path), "CPU", FLOAT32)
    for file in (folder / "anomalous" / "a03.png", folder / "normal" / "n03.png"):
        (expected,) = runner.predict(fitted, data_path=file)
        found = inferencer.predict(file)
        for name in ("pred_score", "anomaly_map"):
            apart = np.squeeze(getattr(found, name)) - np.squeeze(getattr(expected, name).numpy())
            assert np.abs(apart).max() < 1e-4


def planted(module):
    """The pixels of the test images that are targets."""
    masks = [module.test_data[i].gt_mask for i in range(len(module.test_data))]
    return Resize(SIZE, interpolation=0)(torch.stack(masks)).ravel() > 0


@pytest.mark.parametrize("kind", KINDS[:1], indirect=True, ids=["recommended"])
def test_what_we_recommend_finds_more_than_the_papers(kind, fitted):
    _, recommended, module, _ = kind
    images, targets = held_out(module), planted(module)
    ours, papers = (
        average_precision_score(targets, cosines(made, images)[0].ravel())
        for made in (recommended, fitted[0])
    )
    assert ours > papers + 0.2


def test_without_any_anomalous_image(folder, tmp_path):
    fitted, runner = model(preset="unsupervised"), engine(tmp_path)
    runner.fit(fitted, datamodule=data(folder, abnormal_dir=None, mask_dir=None))
    shown = [runner.predict(fitted, data_path=folder / name) for name in ("normal", "anomalous")]
    normal, anomalous = (torch.cat([batch.pred_score for batch in batches]) for batches in shown)
    assert torch.cat([normal, anomalous]).isfinite().all() and anomalous.mean() > normal.mean()
    module = data(folder)
    module.setup()
    assert roc_auc_score(planted(module), cosines(fitted, held_out(module))[0].ravel()) > 0.9


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


@pytest.mark.parametrize(("inputs", "outputs"), [(80, 64), (64, 80), (97, 33), (256, 256), (1, 4), (400, 7)])
def test_resize_matrix_is_torchvisions_antialiased_resize(inputs, outputs):
    rows = torch.rand(3, 1, 1, inputs)
    expected = F.interpolate(rows, size=(1, outputs), mode="bilinear", antialias=True)
    torch.testing.assert_close(rows @ resize_matrix(inputs, outputs).T, expected, atol=1e-5, rtol=0)


def test_memory_of_a_fit_does_not_grow_with_the_images():
    module = model().model
    sizes = []
    for _ in range(3):
        module.update(torch.rand(4, 3, *SIZE))
        state = module.moments.state()
        tensors = [*state["_total"], *state["_products"]["own"], *state["_products"]["cross"]]
        sizes.append(sum(tensor.numel() for tensor in tensors))
    assert module.moments.count == 12 and len(set(sizes)) == 1


def test_a_normalising_pre_processor_normalises_once(folder, tmp_path):
    plain = model(preset="recommended")
    mean, std = (getattr(plain.model.embedder.backbone, name).flatten().tolist() for name in ("mean", "std"))
    resize = Resize(SIZE, antialias=True)
    other = model(preset="recommended", pre_processor=PreProcessor(Compose([resize, Normalize(mean, std)])))
    for fitted in (plain, other):
        runner = engine(tmp_path)
        runner.fit(fitted, datamodule=data(folder))
    loaded = PadimAce.load_from_checkpoint(runner.trainer.checkpoint_callback.best_model_path)
    images = torch.rand(2, 3, 80, 120)
    for fitted in (other, loaded):
        torch.testing.assert_close(
            fitted(images).anomaly_map, plain.eval()(images).anomaly_map, atol=1e-4, rtol=0
        )


def test_grey_images_and_bfloat16(fitted):
    fitted, module, _ = fitted
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
    one, two = (model(preset="recommended") for _ in range(2))
    engine(tmp_path).fit(one, datamodule=module)
    engine(tmp_path, strategy="ddp_spawn", devices=2).fit(two, datamodule=data(folder, test_split_ratio=0.3))
    assert len(module.train_data) == 11
    images = held_out(module)
    torch.testing.assert_close(cosines(two, images), cosines(one, images), atol=1e-4, rtol=0)
