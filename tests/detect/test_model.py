"""The torch module against the experiment, which keeps no buffers and takes its images in other batches."""

import pytest
import torch
from fakes.prepared import write_prepared

from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.detector import RECOMMENDED, UNSUPERVISED, Detector
from padim_ace.detect.model import AceModel
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.experiment import Experiment, Settings

SIZE = (48, 48)
DETECTORS = [
    UNSUPERVISED,
    RECOMMENDED,
    Detector("glrt", "shared", signature="miace", channels="without_peak"),
]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    dataset = PreparedDataset.open(write_prepared(tmp_path_factory.mktemp("data") / "fake", images=24))
    settings = Settings(seeds=(3,), features=12, image_size=SIZE, batch_size=7)
    made = Experiment(dataset, load_backbone("tf_efficientnet_lite0"), {"paper": DETECTORS}, settings)
    made.run()
    return made


@pytest.mark.parametrize("detector", DETECTORS, ids=["unsupervised", "recommended", "shared"])
def test_a_model_gives_the_maps_of_the_experiment(experiment, detector):
    (run,) = experiment.runs

    def images(role):
        return torch.stack(
            [experiment.dataset.image(i, SIZE) for i in (run.roles == role).nonzero()[0].tolist()]
        )

    backbone = load_backbone("tf_efficientnet_lite0")
    model = AceModel(backbone, detector, features=12, seed=3, image_size=SIZE)
    for batch in images("train").split(4):
        model.update(batch)
    model.fit([(batch, None, []) for batch in images("signature").split(3)] if detector.has_signature else ())
    (expected,) = experiment.maps(images("test"), run, [detector])
    found = model(images("test"))
    torch.testing.assert_close(found.anomaly_map[:, 0], expected, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(found.pred_score, expected.amax((1, 2)), atol=2e-4, rtol=2e-4)
