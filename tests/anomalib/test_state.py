"""What a fitted model is travels with its state; a fit is one whole pass; hparams can be read."""

import logging

import pytest
import torch
import yaml
from anomalib.callbacks import ModelCheckpoint
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from small import SIZE, cosines, data, engine, held_out, model
from test_signature_images import Items

import padim_ace.detect.backbones
from padim_ace import PadimAce

OTHER = [
    {"statistic": "tolerant", "signature": "lace", "channels": "sar", "smoothing": 2.0},
    {"statistic": "padim"},
    {"precision": "bfloat16"},
    {"covariance": "diagonal"},
    {"n_features": 20},
    {"background": "shared"},
    {"backbone": "resnet10t", "layers": None, "n_features": None},
    {"pre_processor": PadimAce.configure_pre_processor((96, 64)), "seed": 1},
]


@pytest.mark.parametrize("arguments", OTHER, ids=lambda arguments: "-".join(arguments))
def test_a_checkpoint_is_not_another_model_in_silence(arguments, folder, tmp_path, caplog):
    module, runner = data(folder), engine(tmp_path)
    made = model(**arguments)
    runner.fit(made, datamodule=module)
    expected = torch.cat([batch.pred_score for batch in runner.predict(made, datamodule=module)])
    other = model()
    caplog.clear()
    batches = engine(tmp_path).predict(other, datamodule=data(folder), ckpt_path=runner.best_model_path)
    torch.testing.assert_close(torch.cat([b.pred_score for b in batches]), expected, atol=1e-6, rtol=0)
    assert other.model.get_extra_state() == made.model.get_extra_state()
    warned = [record for record in caplog.records if "overrides the arguments" in record.message]
    if "seed" in arguments:  # the channels and the image size are no contradiction worth a word
        assert not warned
        return
    (line,) = warned
    told = line.getMessage()
    assert "\n" not in told and line.levelno == logging.WARNING
    assert all(name in told for name in arguments if name not in ("layers", "pre_processor"))


def test_a_checkpoint_loads_with_neither_weights_nor_signature_images(folder, tmp_path, monkeypatch):
    copied = tmp_path / "others"
    copied.symlink_to(folder / "others")
    fitted = model(signature_images=copied, signature_masks=folder / "other_masks", signature="masked")
    module, runner = data(folder), engine(tmp_path)
    runner.fit(fitted, datamodule=module)
    copied.unlink()
    monkeypatch.setenv("PADIM_ACE_WEIGHTS", str(tmp_path))
    loaded = PadimAce.load_from_checkpoint(runner.best_model_path, visualizer=False).eval()
    assert loaded.input_size == SIZE
    images = torch.rand(2, 3, 80, 120)
    torch.testing.assert_close(loaded(images)._asdict(), fitted.eval()(images)._asdict(), atol=0, rtol=0)


@pytest.mark.parametrize("source", ["path", "dataset"])
def test_loggers_write_what_can_be_read_again(source, folder, tmp_path):
    chosen = folder / "others" if source == "path" else Items(folder / "others")
    fitted = model(signature_images=chosen, layers=("layer1", "layer2"))
    engine(tmp_path, logger=CSVLogger(tmp_path)).fit(fitted, datamodule=data(folder))
    (file,) = tmp_path.rglob("hparams.yaml")
    kept = yaml.safe_load(file.read_text())
    assert kept["signature_images"] == (str(chosen) if source == "path" else None)
    assert kept["layers"] == ["layer1", "layer2"] and kept["preset"] == "paper"


def test_a_fit_resumed_inside_an_epoch_is_refused(folder, tmp_path):
    """The checkpoint does not hold the images before it: half of them would be fitted."""
    module = data(folder)
    often = ModelCheckpoint(tmp_path, "step{step}", every_n_train_steps=2, save_top_k=-1)
    runner = engine(tmp_path, callbacks=[often], limit_train_batches=3)
    monitored = model()
    runner.fit(monitored, datamodule=module)
    (cut, *_) = sorted(tmp_path.glob("step*.ckpt"))
    with pytest.raises(
        ValueError, match="ckpt_path: .* found one from after 2 batches, .*fit without ckpt_path"
    ):
        engine(tmp_path, limit_train_batches=3).fit(model(), datamodule=data(folder), ckpt_path=cut)


QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def test_lightnings_own_trainer(folder, tmp_path):
    """With its sanity check, which comes before any fit; validation in mid-epoch fits half the images."""
    fitted, module = model(), data(folder)
    Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET).fit(fitted, datamodule=module)
    expected = model()
    engine(tmp_path).fit(expected, datamodule=data(folder))
    images = held_out(module)
    torch.testing.assert_close(cosines(fitted, images), cosines(expected, images), atol=1e-5, rtol=0)
    torch.testing.assert_close(fitted.post_processor.image_threshold, expected.post_processor.image_threshold)
    often = Trainer(max_epochs=1, default_root_dir=tmp_path, val_check_interval=0.5, **QUIET)
    with pytest.raises(
        ValueError, match="val_check_interval: .* found it after 1 of 3 batches; set it to 1.0"
    ):
        often.fit(model(), datamodule=data(folder))


def test_a_second_fit_on_one_engine_and_a_validation_before_any(folder, tmp_path):
    runner = engine(tmp_path)
    runner.fit(model(), datamodule=data(folder))
    with pytest.raises(ValueError, match="Engine: expected one that has not fitted, .*; make a new one"):
        runner.fit(model(), datamodule=data(folder))
    with pytest.raises(
        ValueError, match="expected a fitted model, found none; call fit or load a checkpoint"
    ):
        engine(tmp_path).validate(model(), datamodule=data(folder))


def test_a_second_fit_forgets_the_first_and_seeds_reproduce(folder, tmp_path):
    fitted, module = model(), data(folder)
    engine(tmp_path).fit(fitted, datamodule=data(folder, seed=5))
    engine(tmp_path).fit(fitted, datamodule=module)
    fresh = model()
    engine(tmp_path).fit(fresh, datamodule=module)
    images = held_out(module)
    torch.testing.assert_close(cosines(fitted, images), cosines(fresh, images), atol=1e-6, rtol=0)
    assert not torch.equal(model(seed=1).model.index, fresh.model.index)


def test_weights_that_are_gone(monkeypatch):
    monkeypatch.setattr(padim_ace.detect.backbones, "_from_package", lambda *_: "gone")
    with pytest.raises(padim_ace.detect.backbones.WeightsError, match="gone"):
        model(backbone="tf_efficientnet_lite0", layers=None, pre_trained=True, weights="package")
