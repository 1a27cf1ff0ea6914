"""The scale on which anomalib shows scores: strictly increasing, 0.5 at the threshold, and filled."""

import pytest
import torch
from small import data, engine, model

from padim_ace.anomalib.model import AcePostProcessor


@pytest.mark.parametrize("threshold", [-0.9, 0.0, 0.4, 0.6, 1.0, torch.nan])
@pytest.mark.parametrize("bounds", [(-0.1, 0.55), (0.5, 0.3), (-1.0, 1.0), (torch.nan, torch.nan)])
def test_it_is_strictly_increasing_from_0_to_1_with_the_threshold_at_one_half(threshold, bounds):
    low, high, middle = torch.tensor([*bounds, threshold])
    cosine = torch.linspace(-1, 1, 401)
    scores = AcePostProcessor._normalize(cosine, low, high, middle)
    assert scores[0] == 0 and scores[-1] <= 1 and (scores.diff() > 0).all()
    at = middle.nan_to_num(0)
    assert AcePostProcessor._normalize(at, low, high, middle) == pytest.approx(0.5)
    if -1 < low < at < high < 1:
        ends = AcePostProcessor._normalize(torch.stack([low, high]), low, high, middle)
        torch.testing.assert_close(ends, torch.tensor([0.05, 0.95]))


@pytest.fixture(scope="module")
def shown(folder, tmp_path_factory):
    """Scores and maps of 15 normal and 10 anomalous images, on anomalib's scale."""
    fitted, module = model(preset="recommended"), data(folder)
    runner = engine(tmp_path_factory.mktemp("shown"))
    runner.fit(fitted, datamodule=module)
    batches = [b for name in ("normal", "anomalous") for b in runner.predict(fitted, data_path=folder / name)]
    return torch.cat([b.pred_score for b in batches]), torch.cat([b.anomaly_map for b in batches])


def test_sensitivity_is_no_switch(shown):
    """At 0.2 the surest targets are labelled still, at 0.9 some images are not yet."""
    labelled = [int((shown[0] > 1 - sensitivity).sum()) for sensitivity in (0.2, 0.5, 0.9)]
    assert 0 < labelled[0] <= labelled[1] < labelled[2] < 25, labelled


def test_heat_maps_fill_the_scale(shown):
    scores, maps = shown
    assert scores.min() < 0.15 and scores.max() > 0.85
    assert maps.min() < 0.1 and maps.max() > 0.9
