"""The pass over the anomalous images that makes every signature of every draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from padim_ace.detect.background import Background, Moments
from padim_ace.detect.detector import Detector
from padim_ace.detect.embedding import FeatureSubset
from padim_ace.detect.pyramid import Embedding
from padim_ace.detect.signature import MeanSignature, Pool, as_embedding
from padim_ace.experiment.embeddings import ImageEmbeddings
from padim_ace.experiment.protocols import Draw
from padim_ace.experiment.scorer import Convention, SignatureSet

CLUTTER_IMAGES = 256  #: Normal training images in which an experiment looks for clutter


@dataclass
class DrawRun:
    """What one draw decides and gathers."""

    draw: Draw
    detectors: list[Detector]  #: Those that are judged in it
    roles: np.ndarray
    subset: FeatureSubset
    moments: Moments = field(default_factory=Moments)
    backgrounds: dict[tuple[str, str], Background] = field(default_factory=dict)  #: By :attr:`Detector.space`
    signatures: SignatureSet | None = None

    def members(self, role: str, index: np.ndarray) -> Int[np.ndarray, " chosen"]:
        """Which of the images ``index`` have a role, as places in ``index``."""
        return np.flatnonzero(self.roles[index] == role)

    def chosen(self, embedding: Embedding, places: Int[np.ndarray, " chosen"]) -> list[Tensor]:
        """This draw's features of the images at some places of a batch."""
        return self.subset.select(embedding, torch.from_numpy(places).to(embedding[0].device))


class _Gathering:
    """What the signatures of one draw are made of."""

    def __init__(self, run: DrawRun, conventions: Mapping[str, Convention]) -> None:
        self.run = run
        targeted = [d for d in run.detectors if d.has_signature]
        self.mean = MeanSignature()
        plain = all(conventions[d.convention].normalised for d in targeted)
        self.unnormalised = None if plain else MeanSignature()
        self.pools = {space: Pool([d for d in targeted if d.space == space]) for space in run.backgrounds}
        ranks = np.full(len(run.roles), len(run.roles))
        index = np.flatnonzero(run.roles == "signature")
        ranks[np.random.default_rng(run.draw.seed).permutation(index)] = np.arange(len(index))
        self.ranks = torch.from_numpy(ranks).float()
        """The order in which signature images are given, where a detector gets only a few."""

    def found(self) -> SignatureSet:
        """The signatures."""
        pooled = {}
        for space, gathered in self.pools.items():
            background = self.run.backgrounds[space]
            features = [mean.shape[-1] for mean in background.mean]
            for pool, direction in gathered.signatures(background.samples).items():
                pooled[*space, *pool] = as_embedding(direction, features)
        raw = None if self.unnormalised is None else self.unnormalised.mean()
        return SignatureSet(self.mean.mean(), raw, pooled)


def find_signatures(
    images: ImageEmbeddings,
    runs: Sequence[DrawRun],
    conventions: Mapping[str, Convention],
    wanted: Bool[np.ndarray, " image"],
) -> list[SignatureSet | None]:
    """The signatures of each draw, none where no detector needs one; the embeddings of images that are
    ``wanted`` again are kept."""
    gathered = {
        number: _Gathering(run, conventions)
        for number, run in enumerate(runs)
        if any(d.has_signature for d in run.detectors)
    }
    every = list(gathered.values())
    index = np.flatnonzero(np.any([of.run.roles == "signature" for of in every], axis=0))
    levels = ["pixel"] if any(pool.masked for of in every for pool in of.pools.values()) else []
    for batch, embedding in images.batches(index, "signature", levels):
        images.store.add(batch.index, embedding, wanted[batch.index])
        covered = images.embedder.covered(batch.masks["pixel"]) if levels else None
        for of in every:
            members = of.run.members("signature", batch.index)
            places = torch.from_numpy(members)
            chosen = of.run.chosen(embedding, members)
            of.mean.update(chosen)
            rank = of.ranks[torch.from_numpy(batch.index[members])].to(images.device)
            for space, pool in of.pools.items():
                if pool.wanted and len(members):
                    part = None if covered is None else covered[:, places.to(covered.device)]
                    pool.add(of.run.backgrounds[space].whiten(chosen), part, rank)
        raw = {of: of.unnormalised for of in every if of.unnormalised is not None}
        if any(len(of.run.members("signature", batch.index)) for of in raw):
            embedding = images.compute(batch.images, normalise=False)
            for of, mean in raw.items():
                mean.update(of.run.chosen(embedding, of.run.members("signature", batch.index)))
    _add_clutter(images, every)
    return [gathered[number].found() if number in gathered else None for number in range(len(runs))]


def _add_clutter(images: ImageEmbeddings, gathered: Sequence[_Gathering]) -> None:
    """Some of the normal images that train, for signatures that are held against clutter."""
    members = clutter_images([of.run for of in gathered])
    for batch, embedding in images.batches(np.flatnonzero(members.any(0)), "clutter"):
        for number, of in enumerate(gathered):
            chosen = of.run.chosen(embedding, np.flatnonzero(members[number, batch.index]))
            for space, pool in of.pools.items():
                if pool.learns:
                    pool.add_clutter(of.run.backgrounds[space].whiten(chosen))


def clutter_images(runs: Sequence[DrawRun]) -> Bool[np.ndarray, "draw image"]:
    """Which normal images each draw looks for clutter in; none if no detector does.

    They are the first that train, in an order that draws share, so that few images serve all.
    """
    images = len(runs[0].roles)
    members = np.zeros((len(runs), images), bool)
    order = np.random.default_rng(0).permutation(images)
    for number, run in enumerate(runs):
        if Pool(run.detectors).learns:
            members[number, order[run.members("train", order)][:CLUTTER_IMAGES]] = True
    return members
