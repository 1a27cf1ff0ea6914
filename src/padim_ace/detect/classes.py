r"""Classes of targets: one signature for each, where the classes of anomalous images are known.

A class's signature is :func:`padim_ace.detect.signature.lace` of its images against those of the other
classes and normal ones. A class's score is :math:`A / \sqrt{N + E}` less its mean over the candidates of
all anomalous images that teach: what any target projects on a class says nothing of it, and without this one
class would take all. A patch is of the class with the largest score, an image of the class with the largest
mean score over its candidates. Whether there is a target at all is not asked.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from padim_ace.detect.pyramid import Energy
from padim_ace.detect.signature import CANDIDATES, Bags, learn

ClassScores = Float[Tensor, "place image class"]


def class_signatures(
    targets: Bags, names: Sequence[str], clutter: Bags, samples: int
) -> tuple[Float[Tensor, "class feature"], Float[Tensor, " class"]]:
    """Signatures of unit length, in the order of the classes' names, and offsets, in float64.

    ``names`` are the classes of the anomalous images whose candidates are ``targets``, ``clutter`` those of
    normal images, ``samples`` the embeddings behind the background.
    """
    found = []
    for known in sorted(set(names)):
        member = torch.tensor([name == known for name in names], device=targets.device)
        found.append(learn("lace", targets[member], torch.cat([targets[~member], clutter]), samples))
    signatures, white = torch.stack(found), targets.double()
    scores = class_scores(
        white @ signatures.T, white.square().sum(-1), samples, signatures.new_zeros(len(found))
    )
    return signatures, scores.mean((0, 1))


def class_scores(
    projections: ClassScores, energy: Energy, samples: float | Tensor, offsets: Float[Tensor, " class"]
) -> ClassScores:
    """How much each patch is like each class."""
    return projections / (samples + energy).sqrt().unsqueeze(-1) - offsets


def image_class(scores: ClassScores, energy: Energy) -> Int[Tensor, " image"]:
    """The class of each image; all of its patches are given, or its candidates."""
    farthest = energy.topk(CANDIDATES, 0).indices.unsqueeze(-1).expand(-1, -1, scores.shape[-1])
    return scores.gather(0, farthest).mean(0).argmax(-1)
