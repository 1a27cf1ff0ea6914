"""Classes by the folders of the signature images, said in ``explanation``."""

import shutil

import torch
from small import data, engine, images_of, model


def test_the_engine_says_the_class_of_each_image(folder, tmp_path):
    for number, path in enumerate(sorted((folder / "others").iterdir())):
        target = tmp_path / "signature" / "ab"[number % 2]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    fitted = model(preset="recommended", signature_images=tmp_path / "signature")
    runner = engine(tmp_path)
    runner.fit(fitted, datamodule=data(folder))
    assert fitted.model.classes == ["a", "b"]
    said = {}
    for batch in runner.predict(fitted, datamodule=data(folder)):
        said |= {item.image_path: item.explanation for item in batch.items}
    expected = fitted.eval().model(images_of(said)).pred_class
    assert list(said.values()) == [fitted.model.classes[number] for number in expected]
    exported = fitted(torch.rand(1, 3, 80, 120))  # what an export computes leaves it out
    assert exported.pred_score.shape == (1,)
