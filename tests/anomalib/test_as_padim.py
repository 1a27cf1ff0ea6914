"""What anomalib tests of every model of its own, with ``Padim`` beside ``PadimAce``."""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import anomalib.models
import jaxtyping
import numpy as np
import openvino
import pytest
import timm
import torch
import yaml
from anomalib.deploy import CompressionType, OpenVINOInferencer, TorchInferencer
from anomalib.models import Padim, get_model
from anomalib.pipelines.tiled_ensemble import EvalTiledEnsemble, TrainTiledEnsemble
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from small import FLOAT32, cosines, data, engine, held_out, model

from padim_ace import PadimAce


@pytest.fixture(scope="module", params=[Padim, PadimAce], ids=["Padim", "PadimAce"])
def trained(request, folder, tmp_path_factory):
    fitted, module = model(request.param), data(folder)
    runner = engine(tmp_path_factory.mktemp("trained"))
    runner.fit(fitted, datamodule=module)
    return fitted.eval(), module, runner, runner.best_model_path


@pytest.fixture
def no_type_checks():
    """jaxtyping's checks would fix the batch size in the graph."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def predictions(runner, fitted, module):
    batches = runner.predict(fitted, datamodule=module)
    return torch.cat([batch.pred_score.flatten() for batch in batches])


def test_fit_validate_test_and_predict(trained):
    fitted, module, runner, _ = trained
    runner.validate(fitted, datamodule=module, verbose=False)
    (metrics,) = runner.test(fitted, datamodule=module, verbose=False)
    assert set(metrics) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    labels = (module.test_data.samples.label_index == 1).to_numpy()
    scores = predictions(runner, fitted, module)
    assert metrics["image_AUROC"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert scores.min() >= 0 and scores.max() <= 1


@pytest.mark.parametrize(
    "arguments", [{}, {"n_features": 20}, {"backbone": "resnet34", "layers": ["layer1"]}]
)
def test_a_checkpoint_and_a_model_of_other_arguments(trained, arguments):
    """Padim refuses a state of other shapes; PadimAce becomes what the state is of."""
    fitted, module, runner, path = trained
    expected, other = predictions(runner, fitted, module), model(type(fitted), **arguments)
    if arguments and isinstance(other, Padim):
        with pytest.raises((RuntimeError, ValueError)):
            runner.predict(other, datamodule=module, ckpt_path=path)
        return
    found = torch.cat(
        [b.pred_score.flatten() for b in runner.predict(other, datamodule=module, ckpt_path=path)]
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    loaded = type(fitted).load_from_checkpoint(path, visualizer=False)
    torch.testing.assert_close(predictions(runner, loaded, module), expected, atol=1e-6, rtol=0)


def load(kind, path, precision=FLOAT32):
    return TorchInferencer(path, "cpu") if kind == "torch" else OpenVINOInferencer(path, "CPU", precision)


def furthest(inferencer, runner, fitted, files):
    """Largest differences of maps and scores between an exported model and the Engine."""
    apart = []
    for file in files:
        (expected,) = runner.predict(fitted, data_path=file)
        found = inferencer.predict(file)
        apart += [
            np.abs(
                np.asarray(getattr(found, field)).squeeze() - np.asarray(getattr(expected, field)).squeeze()
            )
            for field in ("pred_score", "anomaly_map")
        ]
    return max(difference.max() for difference in apart)


@pytest.fixture(scope="module")
def exports(trained, tmp_path_factory):
    """Each export is made once."""
    made = {}
    root = tmp_path_factory.mktemp("exports")

    def export(kind, **arguments):
        key = (kind, *arguments)
        if key not in made:
            made[key] = trained[2].export(trained[0], kind, export_root=root, **arguments)
        return made[key]

    return export


@pytest.fixture
def files(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    monkeypatch.chdir(tmp_path)  # the inferencer writes a cache where it is
    return [folder / "anomalous" / "a03.png", folder / "normal" / "n03.png"]


@pytest.mark.parametrize("kind", ["torch", "onnx", "openvino"])
def test_exports_load_and_predict_what_the_engine_does(kind, trained, exports, files, no_type_checks):
    fitted, _, runner, _ = trained
    apart = furthest(load(kind, exports(kind)), runner, fitted, files)
    # anomalib exports its resize without antialiasing: Padim is another model afterwards
    assert apart < 1e-5 if isinstance(fitted, PadimAce) else 1e-3 < apart < 0.5


def test_bfloat16_would_be_noticed(trained, exports, files, no_type_checks):
    """OpenVINO takes it by itself on processors that have it, and is told here to, so that all show it."""
    fitted, _, runner, _ = trained
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    if isinstance(fitted, PadimAce):
        assert (
            furthest(
                load("onnx", exports("onnx"), {"INFERENCE_PRECISION_HINT": "bf16"}), runner, fitted, files
            )
            > 1e-4
        )


def test_int8_exports_load_and_agree_within_their_bound(trained, exports, files, no_type_checks):
    fitted, module, runner, _ = trained
    for compression, bound in (
        (CompressionType.INT8_PTQ, 0.05),
        (CompressionType.INT8, 0.05),
        (CompressionType.FP16, 0.01),
    ):
        path = runner.export(
            fitted, "openvino", export_root=compression.value, compression_type=compression, datamodule=module
        )
        apart = furthest(load("openvino", path), runner, fitted, files)
        # Padim's distance has no bound, and nothing holds its map in 8 bits: it has to load and predict
        assert 1e-6 < apart < bound if isinstance(fitted, PadimAce) else apart > 0


COMMANDS = """
seed_everything: 0
model:
  class_path: {path}
  init_args:
    layers: [layer1, layer2]
    pre_trained: false
    n_features: 30
data:
  class_path: anomalib.data.Folder
  init_args:
    name: fake
    root: {root}
    normal_dir: normal
    abnormal_dir: anomalous
    mask_dir: masks
    seed: 0
    num_workers: 0
trainer: {{accelerator: cpu, devices: 1, enable_progress_bar: false}}
default_root_dir: {out}
"""


@pytest.mark.parametrize("path", ["anomalib.models.Padim", "padim_ace.PadimAce"])
def test_the_command_line_takes_a_yaml_file(path, folder, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(COMMANDS.format(path=path, root=folder, out=tmp_path))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [Path(sys.executable).parent / "anomalib", "train", "--config", config]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "pixel_AUROC" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize("name", ["Padim", "PadimAce"])
def test_anomalib_finds_it_by_name_and_by_class_path(name):
    package = "anomalib.models" if name == "Padim" else "padim_ace"
    small = {"pre_trained": False, "layers": ["layer1"], "n_features": 10}
    for given in (name, {"class_path": f"{package}.{name}", "init_args": small}):
        made = get_model(given, **small if isinstance(given, str) else {})
        assert type(made).__name__ == name
    assert "PadimAce" in anomalib.models.list_models("pascal")


@pytest.mark.parametrize("path", ["Padim", "padim_ace.PadimAce"])
def test_a_tiled_ensemble_trains_and_tests(path, folder, tmp_path, monkeypatch):
    """Four tiles of 40 x 64 pixels; with default arguments, as a file's never meet the pipeline's own."""
    kind = PadimAce if "ace" in path else Padim
    small = ("resnet18", ["layer1", "layer2"], False, 20, True, True, True, True)
    monkeypatch.setattr(kind.__init__, "__defaults__", small)
    # the type checks of the tests wrap PadimAce, whose own defaults stay: it finds random weights in a folder
    state = timm.create_model("resnet18.tv_in1k").state_dict()
    save_file(state, tmp_path / "resnet18.tv_in1k.safetensors")
    monkeypatch.setenv("PADIM_ACE_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    module = {
        "name": "fake",
        "normal_dir": "normal",
        "root": str(folder),
        "abnormal_dir": "anomalous",
        "mask_dir": "masks",
    }
    splits = {
        "val_split_mode": "from_test",
        "val_split_ratio": 0.5,
        "test_split_mode": "from_dir",
        "test_split_ratio": 0.2,
    }
    loader = {"seed": 0, "num_workers": 0, "train_batch_size": 4, "eval_batch_size": 4}
    config = {
        "seed": 0,
        "accelerator": "cpu",
        "default_root_dir": str(tmp_path),
        "tiling": {"tile_size": [40, 64], "stride": [40, 64], "image_size": [80, 128]},
        "normalization_stage": "image",
        "thresholding_stage": "image",
        "data": {"class_path": "anomalib.data.Folder", "init_args": module | splits | loader},
        "SeamSmoothing": {"apply": False, "sigma": 2, "width": 0.1},
        "TrainModels": {"model": {"class_path": path}},
    }
    (tmp_path / "ensemble.yaml").write_text(yaml.safe_dump(config))
    arguments = Namespace(config=str(tmp_path / "ensemble.yaml"))
    training = TrainTiledEnsemble()
    training.run(arguments)
    EvalTiledEnsemble(training.root_dir).run(arguments)
    assert len(list(training.root_dir.rglob("model*.ckpt"))) == 4
    (metrics,) = training.root_dir.rglob("*metric*.csv")
    found = metrics.read_text()
    assert "AUROC" in found, found
    log = Path("runs/pipeline.log")
    assert not log.exists() or "Traceback" not in log.read_text()


def test_it_is_used_as_padim_is(trained):
    """``model.model`` gives maps and scores of whatever images, unprocessed."""
    fitted, module, _, _ = trained
    maps, scores = cosines(fitted, held_out(module))
    torch.testing.assert_close(scores.flatten(), maps.amax((1, 2, 3)))
