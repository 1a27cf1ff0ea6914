"""The pass over the anomalous images that makes every signature of every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from padim_ace.detect.background import Background, Moments
from padim_ace.detect.detector import Detector
from padim_ace.detect.embedding import FeatureSubset
from padim_ace.detect.inner_products import Full
from padim_ace.detect.pool import Pool
from padim_ace.detect.pyramid import Embedding
from padim_ace.detect.registry import SIGNATURES
from padim_ace.detect.signature import MeanSignature, as_embedding
from padim_ace.experiment.convention import Convention
from padim_ace.experiment.image_embeddings import ImageEmbeddings
from padim_ace.experiment.scorer import SignatureSet

CLUTTER_IMAGES = 256
"""Normal training images in which an experiment looks for clutter."""


@dataclass
class SeedRun:
    """What one seed decides and gathers."""

    seed: int
    roles: np.ndarray
    subset: FeatureSubset
    moments: Moments = field(default_factory=Moments)
    backgrounds: dict[str, Background] = field(default_factory=dict)
    signatures: SignatureSet | None = None

    def chosen(self, embedding: Embedding, places: Int[np.ndarray, " chosen"]) -> list[Tensor]:
        """This seed's features of the images at some places of a batch."""
        return self.subset.select(embedding, torch.from_numpy(places).to(embedding[0].device))


class _Gathering:
    """What the signatures of one seed are made of."""

    def __init__(self, seed: SeedRun, detectors: Sequence[Detector], images: ImageEmbeddings) -> None:
        self.seed = seed
        self.mean, self.unnormalised = MeanSignature(), MeanSignature()
        self.shape = images.embedder.shape(seed.subset)
        kinds = seed.backgrounds
        self.pools = {kind: Pool([d for d in detectors if d.background == kind]) for kind in kinds}
        self.products = {kind: Full(b.whitening, self.shape) for kind, b in seed.backgrounds.items()}
        ranks = np.full(len(seed.roles), len(seed.roles))
        index = np.flatnonzero(seed.roles == "signature")
        ranks[np.random.default_rng(seed.seed).permutation(index)] = np.arange(len(index))
        self.ranks = torch.from_numpy(ranks).float()
        """The order in which the seed is given signature images, where a detector gets only a few."""

    def white(self, kind: str, embedding: Embedding) -> Embedding:
        """An embedding as the background of a kind whitens it."""
        return self.products[kind].whiten(self.seed.backgrounds[kind].centre(embedding))

    def found(self, unnormalised: bool) -> SignatureSet:
        """The signatures."""
        return SignatureSet(
            self.mean.mean(),
            self.unnormalised.mean() if unnormalised else None,
            {
                (kind, *pool): as_embedding(directions, self.shape.features)
                for kind, gathered in self.pools.items()
                for pool, directions in gathered.signatures().items()
            },
        )


def find_signatures(
    images: ImageEmbeddings,
    seeds: Sequence[SeedRun],
    detectors: Sequence[Detector],
    conventions: Mapping[str, Convention],
) -> list[SignatureSet]:
    """The signatures of each seed. Signature images are the same for all seeds; the features are not."""
    masks = any(d.has_signature and SIGNATURES[d.signature].supervision == "masks" for d in detectors)
    unnormalised = any(d.has_signature and not conventions[d.convention].normalised for d in detectors)
    gathered = [_Gathering(seed, detectors, images) for seed in seeds]
    index = np.flatnonzero(np.any([seed.roles == "signature" for seed in seeds], axis=0))
    for batch, embedding in images.batches(index, "signature", masks):
        covered = images.embedder.covered(batch.masks) if batch.masks is not None else None
        every = np.arange(len(batch.index))
        for of_seed in gathered:
            chosen = of_seed.seed.chosen(embedding, every)
            of_seed.mean.update(chosen)
            rank = of_seed.ranks[torch.from_numpy(batch.index)].to(images.device)
            for kind, pool in of_seed.pools.items():
                if pool.needed:
                    pool.add(of_seed.white(kind, chosen), covered, rank)
        if unnormalised:
            embedding = images.compute(batch.images, normalise=False)
            for of_seed in gathered:
                of_seed.unnormalised.update(of_seed.seed.chosen(embedding, every))
    _add_clutter(images, gathered, detectors)
    return [of_seed.found(unnormalised) for of_seed in gathered]


def _add_clutter(
    images: ImageEmbeddings, gathered: Sequence[_Gathering], detectors: Sequence[Detector]
) -> None:
    """Some of the normal images that train, for signatures that are held against clutter."""
    members = clutter_images([of_seed.seed for of_seed in gathered], detectors)
    for batch, embedding in images.batches(np.flatnonzero(members.any(0)), "clutter"):
        for number, of_seed in enumerate(gathered):
            chosen = of_seed.seed.chosen(embedding, np.flatnonzero(members[number, batch.index]))
            for kind, pool in of_seed.pools.items():
                if pool.contrasts:
                    pool.add_clutter(of_seed.white(kind, chosen))


def clutter_images(seeds: Sequence[SeedRun], detectors: Sequence[Detector]) -> Bool[np.ndarray, "seed image"]:
    """Which normal images each seed looks for clutter in; none if no detector does.

    They are the first that train, in an order that seeds share, so that few images serve all.
    """
    images = len(seeds[0].roles)
    members = np.zeros((len(seeds), images), bool)
    if Pool(detectors).contrasts:
        order = np.random.default_rng(0).permutation(images)
        for number, seed in enumerate(seeds):
            members[number, order[seed.roles[order] == "train"][:CLUTTER_IMAGES]] = True
    return members
