"""One pass over the images for every detector and seed.

Fit pass: the normal images that train, moments for each seed. Signature pass: the anomalous images of the
release's train split, and, for signatures that are held against clutter, some of the normal images again.
Score pass: validation and test images. Each image goes through the backbone once a pass, whatever the number
of detectors and seeds, and on a CPU once in all where a later pass can read its embedding back
(:mod:`padim_ace.experiment.image_embeddings`); a seed is an index selection from its feature maps.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.backbones import Backbone
from padim_ace.detect.background import Background, Moments, fit_background, shrinkage_likelihoods
from padim_ace.detect.embedding import Embedder, FeatureSubset
from padim_ace.detect.inner_products import Full, Shape
from padim_ace.detect.maps import anomaly_map, smoothing_matrix
from padim_ace.detect.pool import Pool
from padim_ace.detect.pyramid import Embedding
from padim_ace.detect.signature import MeanSignature, as_embedding
from padim_ace.experiment import checkpoint
from padim_ace.experiment.dataset import Batch, PreparedDataset
from padim_ace.experiment.detectors import Detector
from padim_ace.experiment.image_embeddings import ImageEmbeddings
from padim_ace.experiment.metrics import Truth
from padim_ace.experiment.scorer import Scorer, SignatureSet
from padim_ace.experiment.tally import Scores, Tally

CLUTTER_IMAGES = 256
"""Normal training images in which clutter is looked for."""
SAVED_EVERY = 300
"""Seconds between two saves of what the score pass has measured so far."""


@dataclass(frozen=True)
class Settings:
    """What an experiment does beside its data, backbone and detectors."""

    seeds: tuple[int, ...] = (0, 1, 2)
    features: int = 100
    image_size: tuple[int, int] = (256, 256)
    batch_size: int = 64
    """Factors, sums and histograms are read once a batch, so a larger one makes many seeds cheaper."""
    precision: str = "float32"
    device: str = "cpu"
    workers: int = 2

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision: expected float32 or bfloat16, found {self.precision!r}")


@dataclass
class SeedRun:
    """What one seed decides and gathers."""

    seed: int
    roles: np.ndarray
    subset: FeatureSubset
    moments: Moments = field(default_factory=Moments)
    held_out: Moments = field(default_factory=Moments)
    shrinkage: dict[float, float] = field(default_factory=dict)
    """Mean log-likelihood of held-out normal patches, by the weight of the pooled covariance."""
    backgrounds: dict[str, Background] = field(default_factory=dict)
    signatures: SignatureSet | None = None


class Experiment:
    """A prepared dataset, a backbone and detectors; :meth:`run` scores them all.

    All detectors are judged on the test images, and those of ``validated`` on the validation images too.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        backbone: Backbone,
        detectors: Sequence[Detector],
        settings: Settings,
        validated: Sequence[Detector] = (),
    ) -> None:
        self.dataset = dataset
        self.settings = settings
        self.detectors = list(detectors)
        self._judged = {"test": list(range(len(self.detectors)))}
        """Numbers of the detectors that judge images, by the images' role."""
        if validated:
            self._judged["validation"] = [self.detectors.index(d) for d in validated]
        self.device = torch.device(settings.device)
        self.embedder = Embedder(backbone.to(self.device), settings.image_size).to(self.device)
        self.images = ImageEmbeddings(
            dataset,
            self.embedder,
            batch_size=settings.batch_size,
            precision=settings.precision,
            workers=settings.workers,
        )
        rows, columns = map(smoothing_matrix, self.embedder.grid, settings.image_size)
        self._smoothing = rows.to(self.device), columns.to(self.device)
        self.seeds = [SeedRun(s, dataset.draw_roles(s), self._subset(s)) for s in settings.seeds]
        self.kinds = sorted({d.background for d in self.detectors})

    def shape(self, seed: SeedRun) -> Shape:
        """Places and features of a seed's embeddings."""
        places = tuple(rows * columns for rows, columns in self.embedder.sizes)
        return Shape(places, tuple(len(stage) for stage in seed.subset.stages))

    def _subset(self, seed: int) -> FeatureSubset:
        return FeatureSubset.draw(self.embedder.channels, self.settings.features, seed).to(self.device)

    def run(self, work: Path | None = None) -> Scores:
        """All three passes.

        With a ``work`` folder, a pass that finished there before is not repeated, and a score pass that was
        cut goes on where it was saved last.
        """
        with torch.inference_mode():
            self.images.open_store(work)
            for seed, (moments, held_out) in zip(
                self.seeds, self._resumed(work, "fit", self._fit_pass), strict=True
            ):
                seed.moments, seed.held_out = Moments.from_state(moments), Moments.from_state(held_out)
            self._fit_backgrounds()
            if any(d.signature for d in self.detectors):
                for number, found in enumerate(self._resumed(work, "signature", self._signature_pass)):
                    self.seeds[number].signatures = SignatureSet(**found)
            scores = self._score_pass(work)
            self.images.close_store()
            return scores

    # the passes

    def _with_role(self, *roles: str) -> np.ndarray:
        """The images that have one of ``roles`` in any seed."""
        return np.flatnonzero(np.isin(np.stack([s.roles for s in self.seeds]), roles).any(0))

    def _chosen(
        self, embedding: Embedding, seed: SeedRun, members: np.ndarray
    ) -> list[Float[Tensor, "_place chosen _feature"]]:
        """A seed's features of some images of a batch."""
        return seed.subset.select(embedding, torch.from_numpy(np.flatnonzero(members)).to(self.device))

    def _fit_pass(self) -> list[tuple[dict, dict]]:
        """Moments of the images that train and, where shrinkage is chosen by them, of normal validation
        images."""
        held_out = "shrunk" in self.kinds
        index = self._with_role("train", "validation") if held_out else self._with_role("train")
        wanted = np.isin(np.arange(len(self.dataset)), self._with_role(*self._judged))
        wanted |= self._clutter_images().any(0)
        for batch, embedding in self.images.batches(index[~self.dataset.anomalous[index]], "fit"):
            self.images.keep(batch, embedding, wanted[batch.index])
            for seed in self.seeds:
                roles = seed.roles[batch.index]
                seed.moments.update(self._chosen(embedding, seed, roles == "train"))
                if held_out:
                    seed.held_out.update(self._chosen(embedding, seed, roles == "validation"))
        return [(seed.moments.state(), seed.held_out.state()) for seed in self.seeds]

    def _fit_backgrounds(self) -> None:
        for seed in self.seeds:
            for kind in self.kinds:
                weight = 0.0
                if kind == "shrunk":
                    seed.shrinkage = shrinkage_likelihoods(seed.moments, seed.held_out)
                    weight = max(seed.shrinkage, key=seed.shrinkage.__getitem__)
                seed.backgrounds[kind] = fit_background(seed.moments, kind, shrinkage=weight)
            seed.moments = seed.held_out = Moments()

    def _signature_pass(self) -> list[dict]:
        """Signature images are the same for every seed; the features are not."""
        unnormalised = any("D4" in d.deviations for d in self.detectors)
        masks = any(d.family == "masked" for d in self.detectors)
        means = [MeanSignature() for _ in self.seeds]
        raw = [MeanSignature() for _ in self.seeds]
        pools = [
            {k: Pool([d for d in self.detectors if d.background == k]) for k in self.kinds}
            for _ in self.seeds
        ]
        products = [{k: Full(b, self.shape(s)) for k, b in s.backgrounds.items()} for s in self.seeds]
        ranks = [self._signature_ranks(seed) for seed in self.seeds]
        for batch, embedding in self.images.batches(self._with_role("signature"), "signature", masks):
            covered = self.embedder.covered(batch.masks) if batch.masks is not None else None
            for number, seed in enumerate(self.seeds):
                chosen = seed.subset.select(embedding)
                means[number].update(chosen)
                rank = torch.from_numpy(ranks[number][batch.index]).float().to(self.device)
                for kind, pool in pools[number].items():
                    if pool.needed:
                        white = products[number][kind].whiten(seed.backgrounds[kind].centre(chosen))
                        pool.add(white, covered, rank)
            if unnormalised:
                embedding = self.images.compute(batch.images, normalise=False)
                for number, seed in enumerate(self.seeds):
                    raw[number].update(seed.subset.select(embedding))
        self._add_clutter(pools, products)
        return [
            {
                "mean": mean.mean(),
                "mean_unnormalised": other.mean() if unnormalised else None,
                "pooled": {
                    (name, kind): as_embedding(directions, self.shape(seed).features)
                    for kind, pool in pool_of.items()
                    for name, directions in pool.signatures().items()
                },
            }
            for seed, mean, other, pool_of in zip(self.seeds, means, raw, pools, strict=True)
        ]

    def _add_clutter(self, pools: list[dict[str, Pool]], products: list[dict[str, Full]]) -> None:
        """Some of the normal images that train, for signatures that are held against clutter."""
        kinds = [kind for kind, pool in pools[0].items() if pool.contrasts]
        members = self._clutter_images()
        for batch, embedding in self.images.batches(np.flatnonzero(members.any(0)), "clutter"):
            for number, seed in enumerate(self.seeds):
                chosen = self._chosen(embedding, seed, members[number, batch.index])
                for kind in kinds:
                    white = products[number][kind].whiten(seed.backgrounds[kind].centre(chosen))
                    pools[number][kind].add_clutter(white)

    def _clutter_images(self) -> np.ndarray:
        """Which normal images each seed looks for clutter in, ``[seed, image]``; none if no detector does.

        They are the first that train, in an order that seeds share, so that few images serve all.
        """
        found = np.zeros((len(self.seeds), len(self.dataset)), bool)
        if not any(Pool([d]).contrasts for d in self.detectors):
            return found
        order = np.random.default_rng(0).permutation(len(self.dataset))
        for number, seed in enumerate(self.seeds):
            found[number, order[seed.roles[order] == "train"][:CLUTTER_IMAGES]] = True
        return found

    def _signature_ranks(self, seed: SeedRun) -> np.ndarray:
        """The order in which a seed is given signature images, where a detector gets only a few."""
        index = np.flatnonzero(seed.roles == "signature")
        ranks = np.full(len(self.dataset), len(self.dataset))
        ranks[np.random.default_rng(seed.seed).permutation(index)] = np.arange(len(index))
        return ranks

    def _score_pass(self, work: Path | None) -> Scores:
        tally = Tally(self.detectors, len(self.seeds), len(self.dataset), self.device)
        scorers = [
            {role: self.scorer(seed, numbers) for role, numbers in self._judged.items()}
            for seed in self.seeds
        ]
        index = self._with_role(*self._judged)
        key = self._key(repr([self.detectors, self._judged]))
        done = 0
        if work is not None and (kept := checkpoint.load(work / "score.pt", key, self.device)) is not None:
            done = kept["images"]
            tally.load(kept["tally"])
        saved = time.monotonic()
        for batch, embedding in self.images.batches(index[done:], "score", self.dataset.has_masks):
            truth = Truth.of(batch.masks, self.device) if batch.masks is not None else None
            for number, of_role in enumerate(scorers):
                for role, scorer in of_role.items():
                    self._judge(tally, number, role, scorer, batch, embedding, truth)
            done += len(batch.index)
            if work is not None and time.monotonic() - saved >= SAVED_EVERY:
                checkpoint.save(work / "score.pt", key, {"images": done, "tally": tally.state()})
                saved = time.monotonic()
        return tally.scores()

    def _judge(
        self,
        tally: Tally,
        number: int,
        role: str,
        scorer: Scorer,
        batch: Batch,
        embedding: Embedding,
        truth: Truth | None,
    ) -> None:
        """Score those images of a batch that have a role in the seed of a number."""
        seed = self.seeds[number]
        members = np.flatnonzero(seed.roles[batch.index] == role)
        if not len(members):
            return
        index = torch.from_numpy(members).to(self.device)
        images = torch.from_numpy(batch.index[members]).to(self.device)
        patches = self.embedder.to_raster(scorer.score(seed.subset.select(embedding, index)).transpose(0, 1))
        # the example maps, of the first seed, take their thresholds from its validation images
        judges_pixels = truth is not None and (role == "test" or number == 0)
        known = truth.select(members) if truth is not None and judges_pixels else None
        for detector, scores in zip(self._judged[role], patches, strict=True):
            tally.add((number, detector, role), images, anomaly_map(scores, *self._smoothing), known)

    def scorer(self, seed: SeedRun, numbers: Sequence[int] | None = None) -> Scorer:
        """The scorer of a seed whose background and signatures are known, for the detectors of some numbers
        or all."""
        chosen = self.detectors if numbers is None else [self.detectors[n] for n in numbers]
        shape, raster = self.shape(seed), self.embedder.raster
        return Scorer(chosen, seed.backgrounds, seed.signatures, shape, raster, seed.seed)

    def record(self) -> dict:
        """What each seed drew: the features kept, the roles of the images (counts, checksum); and what it
        chose."""
        drawn = {}
        for seed in self.seeds:
            names, counts = np.unique(seed.roles.astype(str), return_counts=True)
            drawn[str(seed.seed)] = {
                "features": seed.subset.index(self.embedder.channels).tolist(),
                "roles": dict(zip(names.tolist(), counts.tolist(), strict=True)),
                "roles_sha256": hashlib.sha256("\n".join(seed.roles).encode()).hexdigest(),
                "shrinkage": {str(weight): value for weight, value in seed.shrinkage.items()},
            }
        return drawn

    def maps(self, index: np.ndarray, seed: SeedRun) -> Float[Tensor, "detector image row column"]:
        """The pixel maps of a few images, for figures; after :meth:`run`."""
        scorer = self.scorer(seed)
        found = []
        with torch.inference_mode():
            for _, embedding in self.images.batches(index, "maps"):
                patches = scorer.score(seed.subset.select(embedding))
                found.append(anomaly_map(self.embedder.to_raster(patches.transpose(0, 1)), *self._smoothing))
        return torch.cat(found, 1)

    # resuming

    def _resumed(self, work: Path | None, name: str, compute: Callable[[], list]) -> list:
        """The result of a pass, from ``work`` if it finished there, else computed and kept there."""
        if work is None:
            return compute()
        key = self._key(repr(self.kinds) if name == "fit" else repr(self.detectors))
        result = checkpoint.load(work / f"{name}.pt", key, self.device)
        if result is None:
            result = compute()
            checkpoint.save(work / f"{name}.pt", key, result)
        return result

    def forget(self, work: Path) -> None:
        """Remove what :meth:`run` kept in ``work`` to resume from, once its results are written."""
        for name in ("fit", "signature", "score"):
            (work / f"{name}.pt").unlink(missing_ok=True)

    def _key(self, depends: str) -> str:
        """Changes with whatever a pass depends on."""
        weights = hashlib.sha256()
        for tensor in self.embedder.backbone.state_dict().values():
            weights.update(tensor.cpu().contiguous().numpy().tobytes())
        facts = [
            self.dataset.manifest.to_csv(),
            json.dumps(asdict(self.settings), sort_keys=True, default=str),
            depends,
            weights.hexdigest(),
        ]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()
