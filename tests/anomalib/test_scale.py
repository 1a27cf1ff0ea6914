"""The scale on which anomalib shows scores: strictly increasing, 0.5 at the threshold, filled by validation."""

import pytest
import torch
from anomalib.models import Padim
from small import data, engine, model

from padim_ace import PadimAce
from padim_ace.anomalib.processing import AcePostProcessor

NAN = torch.tensor(torch.nan)


@pytest.mark.parametrize("threshold", [-0.9, 0.0, 0.4, 0.6, 1.0, torch.nan])
@pytest.mark.parametrize("bounds", [(-0.1, 0.55), (0.5, 0.3), (-1.0, 1.0), (torch.nan, torch.nan)])
def test_it_is_strictly_increasing_from_0_to_1_with_the_threshold_at_one_half(threshold, bounds):
    low, high, middle = torch.tensor([*bounds, threshold])
    cosine = torch.linspace(-1, 1, 401)
    scores = AcePostProcessor._normalize(cosine, low, high, middle)
    assert scores[0] == 0 and scores[-1] <= 1 and (scores.diff() > 0).all()
    at = middle.nan_to_num(0)
    assert AcePostProcessor._normalize(at, low, high, middle) == pytest.approx(0.5)
    if low < at < high:
        ends = AcePostProcessor._normalize(torch.stack([low, high]), low, high, middle)
        torch.testing.assert_close(
            ends, torch.tensor([0.05 if low > -1 else 0, 0.95 if high < 1 else 1]), atol=0.051, rtol=0
        )


@pytest.fixture(scope="module", params=[Padim, PadimAce], ids=["Padim", "PadimAce"])
def shown(request, folder, tmp_path_factory):
    """A fitted model and its predictions of all images, on anomalib's scale."""
    arguments = {"preset": "recommended", "dimensions": 3} if request.param is PadimAce else {}
    fitted, module, runner = (
        model(request.param, **arguments),
        data(folder),
        engine(tmp_path_factory.mktemp("shown")),
    )
    runner.fit(fitted, datamodule=module)
    batches = [b for name in ("normal", "anomalous") for b in runner.predict(fitted, data_path=folder / name)]
    return (
        fitted,
        torch.cat([b.pred_score.flatten() for b in batches]),
        torch.cat([b.anomaly_map for b in batches]),
    )


def test_sensitivity_is_no_switch(shown):
    """Of 25 images, it labels the more the higher it is, in steps."""
    _, scores, _ = shown
    labelled = [
        int((scores > 1 - sensitivity).sum()) for sensitivity in (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
    ]
    assert labelled == sorted(labelled) and len(set(labelled)) >= 5, labelled


def test_heat_maps_fill_the_scale(shown):
    _, scores, maps = shown
    assert scores.min() < 0.15 and scores.max() > 0.85
    assert maps.min() < 0.1 and maps.max() > 0.9
