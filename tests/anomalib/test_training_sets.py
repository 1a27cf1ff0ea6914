"""Images that are not enough for a fit."""

import cv2
import numpy as np
import pytest
import torch
from small import data, engine, model


@pytest.mark.parametrize(
    ("message", "arguments", "module"),
    [
        (
            "expected real anomalous images in the training set or the validation set, found none; set sign",
            {},
            {"abnormal_dir": None, "mask_dir": None},
        ),
        (
            "background: expected at least 2 normal images, found 1; add images",
            {},
            {"test_split_ratio": 14 / 15},
        ),
        (
            r"a0\d.png: expected a mask, found none; set signature_masks",
            {"signature": "masked"},
            {"mask_dir": None},
        ),
    ],
)
def test_sets_that_are_not_enough(message, arguments, module, folder, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        engine(tmp_path).fit(model(**arguments), datamodule=data(folder, **module))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["normal", "others"])
def test_an_image_that_shows_nothing(name, folder, tmp_path):
    blank = folder / name / "n99.png"
    cv2.imwrite(str(blank), np.full((80, 120), 51, np.uint8))
    try:
        message = "n99.png: expected pixels that differ, found 0.2 everywhere; remove it"
        with pytest.raises(ValueError, match=message):
            fitted = model(signature_images=folder / "others" if name == "others" else None)
            engine(tmp_path).fit(fitted, datamodule=data(folder, test_split_ratio=1 / 16))
    finally:
        blank.unlink()


def test_scoring_before_a_fit_says_so():
    message = "expected a fitted model, found none; call fit or load a checkpoint"
    with pytest.raises(ValueError, match=message):
        model().eval()(torch.rand(1, 3, 80, 120))
