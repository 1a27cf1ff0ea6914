"""Which class a target is of: signatures of classes against logistic regression on the same candidates.

The background is fitted on the normal images of the release's train split, the classes are learnt from its
anomalous images and judged on all of those of its test split. For the classes of MSTAR these are the standard
operating conditions, 17° and 15° of depression; an erased copy of a tested image trains nothing.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from padim_ace.detect.background import Moments, fit_background
from padim_ace.detect.classes import class_scores, class_signatures, image_class
from padim_ace.detect.embedding import FeatureSubset
from padim_ace.detect.pyramid import energy
from padim_ace.detect.signature import ROUNDS, Bags, candidates, minimise
from padim_ace.experiment.embeddings import ImageEmbeddings
from padim_ace.experiment.signature_pass import CLUTTER_IMAGES

CLASSES = ("dataset", "rule", "true", "predicted", "images")  #: The columns of ``classes.csv``
RIVAL_PENALTY = 1e-4  #: Of the squared weights in :func:`logistic_class`; best on held-out chips of MSTAR


def confusion(images: ImageEmbeddings, name: str, features: int = 100, seed: int = 0) -> pd.DataFrame:
    """How many tested images of each class are taken for which, by rule: a part of ``classes.csv``.

    It is empty if the anomalous images of the dataset (called ``name``) are of fewer than two classes.
    """
    manifest, embedder = images.dataset.manifest, images.embedder
    trains, anomalous = (manifest["split"] == "train").to_numpy(), images.dataset.anomalous
    learnt, tested = (manifest["class"][anomalous & split] for split in (trains, ~trains))
    if learnt.nunique() < 2 or not len(tested):
        return pd.DataFrame(columns=list(CLASSES))
    drawn = FeatureSubset.draw(embedder.channels, features, seed)
    subset = replace(drawn, sar=embedder.sar).to(images.device)
    moments = Moments()
    normal = np.flatnonzero(trains & ~anomalous)
    for _, embedding in images.batches(normal, "fit classes"):
        moments.update(subset.select(embedding))
    background = fit_background(moments, "patch")

    def bags(index: np.ndarray) -> Bags:
        found = []
        for _, embedding in images.batches(index, "classes"):
            white = background.whiten(subset.select(embedding))
            found.append(candidates(white, energy(white)).double())
        return torch.cat(found)

    clutter = bags(np.random.default_rng(seed).permutation(normal)[:CLUTTER_IMAGES])
    targets, judged = bags(learnt.index.to_numpy()), bags(tested.index.to_numpy())
    signatures, offsets = class_signatures(targets, list(learnt), clutter, background.samples)
    length = judged.square().sum(-1).T
    scores = class_scores((judged @ signatures.T).transpose(0, 1), length, background.samples, offsets)
    names, labels = np.unique(learnt, return_inverse=True)
    predicted = {
        "ace": image_class(scores, length),
        "logistic": logistic_class(targets, torch.from_numpy(labels), judged, background.samples),
    }
    rows = [
        pd.DataFrame({"dataset": name, "rule": rule, "true": tested, "predicted": names[found.cpu().numpy()]})
        for rule, found in predicted.items()
    ]
    return pd.concat(rows).value_counts(sort=False).rename("images").reset_index()


def logistic_class(
    targets: Bags, labels: Int[Tensor, " image"], judged: Bags, samples: int
) -> Int[Tensor, " judged"]:
    """The classes of judged bags by one logistic regression of all classes, of the means of the candidates'
    :math:`y / \\sqrt{N + E}`."""

    def means(bags: Bags) -> Float[Tensor, "_image _weight"]:
        return F.pad((bags / (samples + bags.square().sum(-1, True)).sqrt()).mean(1), (0, 1), value=1)

    known = means(targets)
    with torch.inference_mode(False), torch.enable_grad():
        known, labels = known.clone(), labels.to(known.device, copy=True)
        weights = known.new_zeros(known.shape[1], int(labels.max()) + 1).requires_grad_()

        def loss() -> Tensor:
            return F.cross_entropy(known @ weights, labels) + RIVAL_PENALTY / 2 * weights.square().sum()

        minimise(loss, [weights], max_iter=10 * ROUNDS)
    return (means(judged) @ weights.detach()).argmax(1)
