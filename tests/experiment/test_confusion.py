import numpy as np
import pandas as pd
import torch
from fakes.prepared import write_prepared
from sklearn.linear_model import LogisticRegression

from padim_ace.detect.backbones import load_backbone
from padim_ace.detect.embedding import Embedder
from padim_ace.experiment.classes import CLASSES, RIVAL_PENALTY, confusion, logistic_class
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.embeddings import ImageEmbeddings
from padim_ace.report.classes import accuracy, confusion_table, sentence


def test_logistic_regression_is_scikit_learns():
    bags, labels = torch.randn(90, 16, 6).double(), torch.arange(90) % 3
    bags[torch.arange(90), :, labels] += 0.5
    samples, (known, judged) = 40, (bags[:60], bags[60:])

    def means(bags):
        return (bags / (samples + bags.square().sum(-1, True)).sqrt()).mean(1).numpy()

    # scikit-learn sums the loss, and does not penalise the offset; the penalty here is too small to tell
    model = LogisticRegression(C=1 / (60 * RIVAL_PENALTY), tol=1e-10, max_iter=5000)
    oracle = model.fit(means(known), labels[:60])
    found = logistic_class(known, labels[:60], judged, samples)
    assert (found.numpy() == oracle.predict(means(judged))).mean() > 0.95


def test_classes_of_the_test_split_are_counted_and_one_class_is_none(tmp_path):
    dataset = PreparedDataset.open(write_prepared(tmp_path / "fake", 40))
    embedder = Embedder(load_backbone("resnet18", "random", (48, 48)), (48, 48), sar=True)
    images = ImageEmbeddings(dataset, embedder, batch_size=16, precision="float32", workers=1)
    assert tuple(confusion(images, "fake", 12).columns) == CLASSES
    assert confusion(images, "fake", 12).empty
    manifest, anomalous = dataset.manifest, dataset.anomalous
    kinds = np.array(["a", "a", "b", "b"])[manifest["scene"].astype(int) % 4]
    manifest.loc[anomalous, "class"] = kinds[anomalous]
    with torch.inference_mode():
        counts = confusion(images, "fake", 12)
    tested = manifest[anomalous & (manifest["split"] == "test")]
    for rule in ("ace", "logistic"):
        per_class = counts[counts["rule"] == rule].groupby("true")["images"].sum()
        assert per_class.to_dict() == tested["class"].value_counts().to_dict()


def test_the_table_and_the_sentence():
    rows = [("x", "ace", *row) for row in (("a", "a", 3), ("a", "b", 1), ("b", "b", 4))]
    rows += [("x", "logistic", "a", "a", 4), ("x", "logistic", "b", "a", 4)]
    counts = pd.DataFrame(rows, columns=list(CLASSES))
    ace = counts[counts["rule"] == "ace"]
    assert accuracy(ace) == 7 / 8
    table = confusion_table(ace)
    assert table["Images"].tolist() == [4, 4]
    assert [(cell.text, cell.bold) for cell in table["a"]] == [("75", True), ("0", False)]
    assert confusion_table(counts[counts["rule"] == "logistic"])["b"][1].text == "0"
    said = sentence(counts)
    assert "Of 8 images" in said and "(ACE) 87.5 %" in said and "regression 50.0 %" in said
    assert "commonest class 50.0 %" in said and "a as b (1)" in said
