r"""Classes of targets: one signature for each, where the classes of anomalous images are known.

A class's signature is :func:`padim_ace.detect.signature.lace` of its images against those of the other
classes and normal ones. A patch is of the class with the largest projection, an image of the class with the
largest mean of :math:`A / \sqrt{N + E}` over its candidates. Whether there is a target at all is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from padim_ace.detect.signature import CANDIDATES, Bags, learn


def class_signatures(
    targets: Bags, names: Sequence[str], clutter: Bags, samples: int
) -> Float[Tensor, "class feature"]:
    """The signatures of the classes in the order of their names, of unit length in float64.

    Args:
        targets: candidates of the anomalous images.
        names: the class of each.
        clutter: candidates of normal images.
        samples: embeddings that the background was estimated from.
    """
    found = []
    for known in sorted(set(names)):
        member = torch.tensor([name == known for name in names], device=targets.device)
        found.append(learn("lace", targets[member], torch.cat([targets[~member], clutter]), samples))
    return torch.stack(found)


def image_class(
    projections: Float[Tensor, "place image class"],
    energy: Float[Tensor, "place image"],
    samples: float | Tensor,
) -> Int[Tensor, " image"]:
    """The class of each image; all of its patches are given, or its candidates."""
    scores = projections / (samples + energy).sqrt().unsqueeze(-1)
    farthest = energy.topk(CANDIDATES, 0).indices.unsqueeze(-1).expand(-1, -1, scores.shape[-1])
    return scores.gather(0, farthest).mean(0).argmax(-1)
