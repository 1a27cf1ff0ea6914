"""The arguments of PadimAce: Padim's first, keyword-only after them, refused at construction where wrong."""

import inspect
import re
from dataclasses import replace

import pytest
import torch
from anomalib.models import Padim
from small import SIZE, cosines, model

from padim_ace import PadimAce
from padim_ace.detect.detector import Detector


def test_they_are_padims_in_their_order_then_keywords_and_all_are_documented():
    ours, padims = (inspect.signature(kind).parameters for kind in (PadimAce, Padim))
    assert list(ours)[: len(padims)] == list(padims)
    assert all(ours[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ours if name not in padims)
    # layers: by default those of the backbone, where PaDiM's are a ResNet's
    assert all(ours[name].default == padims[name].default for name in padims if name != "layers")
    arguments = PadimAce.__init__.__doc__.partition("Raises:")[0]
    documented = re.findall(r"^ {12}(\w+): ", arguments, re.MULTILINE)
    assert documented == list(ours)


def test_the_default_is_the_papers_detector_and_one_argument_is_what_we_recommend():
    assert model().model.detector == Detector("ace", "patch", "full", "mean", "centred")
    recommended = model(preset="recommended").model.detector
    assert recommended == Detector("tolerant", signature="lace", channels="sar", smoothing=2)
    assert model(preset="unsupervised").model.detector == Detector("padim", "patch", "full", "", "", "sar", 2)
    assert 'preset="recommended"' in PadimAce.__doc__.split("\n\n")[1]
    mixed = model(preset="recommended", background="shared", smoothing=3).model.detector
    assert mixed == replace(recommended, background="shared", smoothing=3)


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        ("resnet10t", ["layer1", "layer2", "layer3"]),
        ("mobilenetv3_small_050", ["blocks.0", "blocks.1", "blocks.3"]),  # 48 channels, fewer than 100
        ("test_vit", ["blocks.0", "blocks.1", "blocks.2"]),
    ],
)
def test_any_timm_model_without_layers(backbone, layers):
    made = model(backbone=backbone, layers=None, n_features=None).eval()
    assert made.model.embedder.backbone.layers == layers
    made.model.update(torch.rand(3, 3, *SIZE))
    made.model.fit([(torch.rand(2, 3, *SIZE), None, [])])
    assert cosines(made, torch.rand(2, 3, *SIZE))[0].isfinite().all()


BAD = [
    ({"backbone": "nope"}, "backbone: expected one of resnet18, .* or another model of timm, found 'nope'"),
    (
        {"backbone": "levit_128s", "layers": None},
        r"layers: expected some of stages.0 \(stride 16\), .* of levit_128s, found None; name them",
    ),
    ({"layers": ["layer1", "layer9"]}, r"layers: expected some of act1 \(stride 2\), layer1.*layer9"),
    ({"n_features": 193}, r"n_features: expected 1 to 192 \(the backbone's channels\), found 193"),
    ({"preset": "best"}, "preset: expected one of paper, recommended, unsupervised, found 'best'"),
    ({"background": "pooled"}, "background: expected one of patch, shared, found 'pooled'"),
    ({"covariance": "round"}, "covariance: expected one of full, diagonal, isotropic, found 'round'"),
    ({"signature": "best"}, "signature: expected one of mean, masked, .*, found 'best'"),
    ({"statistic": "rx"}, "statistic: expected one of padim, ace, .*, found 'rx'"),
    (
        {"statistic": "padim", "signature": "mean"},
        "signature: expected none with the statistic padim, found 'mean'",
    ),
    ({"covariance": "diagonal", "signature": "lace"}, "lace signature: expected a full covariance"),
    ({"channels": "radar"}, "channels: expected one of network, sar, .*, found 'radar'"),
    ({"smoothing": 33}, "smoothing: expected 0 to 32 pixels, found 33"),
    ({"precision": "float16"}, "precision: expected one of float32, bfloat16, found 'float16'"),
    ({"pre_trained": True, "weights": "net"}, "weights source: expected one of auto, folder.*, found 'net'"),
    (
        {
            "signature": "lace",
            "layers": ["layer2"],
            "pre_processor": PadimAce.configure_pre_processor((24, 32)),
        },
        "images: expected 16 patches or more, found 12; give larger images",
    ),
    ({"signature_images": "nowhere"}, "nowhere: expected a folder of images, found none; check the path"),
    (
        {"signature_masks": "masks"},
        "signature_images: expected a folder, as signature_masks is one, found none",
    ),
    (
        {"signature": "masked", "signature_images": "OTHERS"},
        "signature_masks: expected a folder of masks of .*others",
    ),
    (
        {"signature_images": "OTHERS", "signature_masks": "MASKS"},
        r"masks: expected one mask a10\.\* or a10_mask\.\* for one image, found none",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_wrong_one_is_refused_at_construction(arguments, message, folder):
    places = {"OTHERS": str(folder / "others"), "MASKS": str(folder / "masks")}
    given = {k: places.get(v, v) if isinstance(v, str) else v for k, v in arguments.items()}
    with pytest.raises(ValueError, match=message) as error:
        model(**given)
    assert "\n" not in str(error.value)


def test_aggregation_is_gone():
    """ACE does not depend on it."""
    with pytest.raises(TypeError, match="aggregation"):
        model(aggregation="trace")
