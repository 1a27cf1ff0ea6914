"""The FROC curve, by hand."""

import numpy as np
import pytest

from padim_ace.experiment.froc import froc


def test_a_scene_made_by_hand():
    score = np.zeros((1000, 1000))
    score[100, 100], score[500, 500:502], score[500, 510] = 9, 7, 6.9  # a ship; a false alarm, part of it
    score[800, 800], score[900:, :] = 8, np.nan  # another false alarm; no data
    rate, found = froc([(score, [(98, 98, 103, 103), (300, 300, 310, 310)])])
    assert rate[:3] == pytest.approx([0, 1 / 0.9, 2 / 0.9])
    assert found[0] == 0.5 and (found[1:] == 0.5).all()
    rate, found = froc([(-score, [(98, 98, 103, 103)])])
    assert not found.any()  # darker than anything else
