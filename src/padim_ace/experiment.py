"""One pass over the images for every detector and seed.

Fit pass: the normal images that train, moments for each seed. Signature pass: the anomalous images of the
release's train split, and, for signatures that are held against clutter, some of the normal images again.
Score pass: validation and test images. Each image goes through the backbone once a pass, whatever the number
of detectors and seeds; a seed is an index selection from its feature maps.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from padim_ace.backbones import Backbone
from padim_ace.background import Background, Moments, fit_background, shrinkage_likelihoods
from padim_ace.dataset import Batch, PreparedDataset, batches
from padim_ace.detectors import Detector
from padim_ace.embedding import Embedder, FeatureSubset
from padim_ace.inner_products import Full, Shape
from padim_ace.maps import anomaly_map, image_score, smoothing_matrix
from padim_ace.metrics import Histogram, Truth
from padim_ace.pool import Pool
from padim_ace.pyramid import Embedding
from padim_ace.scorer import Scorer, SignatureSet
from padim_ace.signature import MeanSignature, as_embedding

SCORED_TOGETHER = 4
"""Batches that are scored together: factors and histograms are read once for all of their images."""
CLUTTER_IMAGES = 256
"""Normal training images in which clutter is looked for."""


@dataclass(frozen=True)
class Settings:
    """What an experiment does beside its data, backbone and detectors."""

    seeds: tuple[int, ...] = (0, 1, 2)
    features: int = 100
    image_size: tuple[int, int] = (256, 256)
    batch_size: int = 16
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


@dataclass
class Scores:
    """What the score pass measured."""

    image: np.ndarray
    """``[seed, detector, image]``, NaN where the detector was not asked about the image."""
    pixel: dict[tuple[int, int, str], Histogram]
    """By (number of the seed, number of the detector, role); on validation images, the first seed's only."""


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
        self._validated = [self.detectors.index(d) for d in validated]
        self.device = torch.device(settings.device)
        self.embedder = Embedder(backbone.to(self.device), settings.image_size).to(self.device)
        self.seeds = [SeedRun(s, dataset.draw_roles(s), self._subset(s)) for s in settings.seeds]
        self.kinds = sorted({d.background for d in self.detectors})

    def shape(self, seed: SeedRun) -> Shape:
        """Places and features of a seed's embeddings."""
        places = tuple(rows * columns for rows, columns in self.embedder.sizes)
        return Shape(places, tuple(len(stage) for stage in seed.subset.stages))

    def _subset(self, seed: int) -> FeatureSubset:
        return FeatureSubset.draw(self.embedder.channels, self.settings.features, seed).to(self.device)

    def run(self, work: Path | None = None) -> Scores:
        """All three passes. With a ``work`` folder, a pass that finished there before is not repeated."""
        with torch.inference_mode():
            for seed, (moments, held_out) in zip(
                self.seeds, self._resumed(work, "fit", self._fit_pass), strict=True
            ):
                seed.moments, seed.held_out = Moments.from_state(moments), Moments.from_state(held_out)
            self._fit_backgrounds()
            if any(d.signature for d in self.detectors):
                for number, found in enumerate(self._resumed(work, "signature", self._signature_pass)):
                    self.seeds[number].signatures = SignatureSet(**found)
            return self._score_pass()

    # the passes

    def _embed(self, batch: Batch, normalise: bool = True) -> Embedding:
        images = batch.images.to(self.device, non_blocking=True)
        backbone = self.embedder.backbone
        inputs = backbone.normalise(images) if normalise else images.expand(-1, 3, -1, -1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        half = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            return self.embedder(inputs)

    def _batches(
        self, index: np.ndarray, what: str, masks: bool = False, together: int = 1
    ) -> Iterator[Batch]:
        """Batches of the images of ``index``, with a progress bar; ``together`` multiplies the batch size."""
        s = self.settings
        with tqdm(total=len(index), desc=what, unit="image", mininterval=1) as bar:
            for batch in batches(
                self.dataset, index, s.image_size, together * s.batch_size, masks=masks, workers=s.workers
            ):
                yield batch
                bar.update(len(batch.index))

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
        for batch in self._batches(index[~self.dataset.anomalous[index]], "fit"):
            embedding = self._embed(batch)
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
        for batch in self._batches(self._with_role("signature"), "signature", masks):
            embedding = self._embed(batch)
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
                embedding = self._embed(batch, normalise=False)
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
        if not kinds:
            return
        members = self._clutter_images()
        for batch in self._batches(np.flatnonzero(members.any(0)), "clutter"):
            embedding = self._embed(batch)
            for number, seed in enumerate(self.seeds):
                chosen = self._chosen(embedding, seed, members[number, batch.index])
                for kind in kinds:
                    white = products[number][kind].whiten(seed.backgrounds[kind].centre(chosen))
                    pools[number][kind].add_clutter(white)

    def _clutter_images(self) -> np.ndarray:
        """Which normal images each seed looks for clutter in, ``[seed, image]``.

        They are the first that train, in an order that seeds share, so that few images serve all.
        """
        order = np.random.default_rng(0).permutation(len(self.dataset))
        found = np.zeros((len(self.seeds), len(self.dataset)), bool)
        for number, seed in enumerate(self.seeds):
            found[number, order[seed.roles[order] == "train"][:CLUTTER_IMAGES]] = True
        return found

    def _signature_ranks(self, seed: SeedRun) -> np.ndarray:
        """The order in which a seed is given signature images, where a detector gets only a few."""
        index = np.flatnonzero(seed.roles == "signature")
        ranks = np.full(len(self.dataset), len(self.dataset))
        ranks[np.random.default_rng(seed.seed).permutation(index)] = np.arange(len(index))
        return ranks

    def _score_pass(self) -> Scores:
        rows, columns = self._smoothing()
        scorers = [self.scorer(seed) for seed in self.seeds]
        size = (len(self.seeds), len(self.detectors), len(self.dataset))
        image = torch.full(size, torch.nan, device=self.device)
        judged = {"test": list(range(len(self.detectors)))}
        if self._validated:
            judged["validation"] = self._validated
        histograms: dict[tuple[int, int, str], Histogram] = {}
        with_pixels = self.dataset.has_masks
        for batch in self._batches(self._with_role(*judged), "score", with_pixels, SCORED_TOGETHER):
            embedding = self._embed(batch)
            truth = Truth.of(batch.masks, self.device) if batch.masks is not None else None
            for number, (seed, scorer) in enumerate(zip(self.seeds, scorers, strict=True)):
                roles = seed.roles[batch.index]
                members = np.flatnonzero(np.isin(roles, list(judged)))
                if not len(members):
                    continue
                chosen = seed.subset.select(embedding, torch.from_numpy(members).to(self.device))
                patches = self.embedder.to_raster(scorer.score(chosen).transpose(0, 1))
                for role, detectors in judged.items():
                    of_role = np.flatnonzero(roles[members] == role)
                    if not len(of_role):
                        continue
                    rows_of_role = members[of_role]
                    picked = torch.from_numpy(of_role).to(self.device)
                    where = torch.from_numpy(batch.index[rows_of_role]).to(self.device)
                    # the example maps, of the first seed, take their thresholds from its validation images
                    judges_pixels = truth is not None and (role == "test" or number == 0)
                    known = truth.select(rows_of_role) if truth is not None and judges_pixels else None
                    for d in detectors:
                        maps = anomaly_map(patches[d, picked], rows, columns)
                        image[number, d, where] = image_score(maps)
                        if known is not None:
                            key = (number, d, role)
                            if key not in histograms:
                                histograms[key] = Histogram(self.detectors[d].bounded, self.device)
                            histograms[key].update(maps, known)
        return Scores(image.cpu().numpy(), histograms)

    def scorer(self, seed: SeedRun) -> Scorer:
        """The scorer of a seed whose background and signatures are known."""
        shape, raster = self.shape(seed), self.embedder.raster
        return Scorer(self.detectors, seed.backgrounds, seed.signatures, shape, raster, seed.seed)

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
        rows, columns = self._smoothing()
        scorer = self.scorer(seed)
        found = []
        with torch.inference_mode():
            for batch in batches(self.dataset, index, self.settings.image_size, self.settings.batch_size):
                patches = scorer.score(seed.subset.select(self._embed(batch)))
                found.append(anomaly_map(self.embedder.to_raster(patches.transpose(0, 1)), rows, columns))
        return torch.cat(found, 1)

    def _smoothing(self) -> tuple[Tensor, Tensor]:
        rows, columns = (
            smoothing_matrix(patches, pixels).to(self.device)
            for patches, pixels in zip(self.embedder.grid, self.settings.image_size, strict=True)
        )
        return rows, columns

    # resuming

    def _resumed(self, work: Path | None, name: str, compute: Callable[[], list]) -> list:
        """The result of a pass, from ``work`` if it finished there, else computed and kept there."""
        if work is None:
            return compute()
        path = work / f"{name}.pt"
        depends = repr(self.kinds) if name == "fit" else repr(self.detectors)
        key = self._key(depends)
        if path.is_file():
            stored = torch.load(path, map_location=self.device, weights_only=True)
            if stored["key"] == key:
                return stored["result"]
        result = compute()
        work.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        torch.save({"key": key, "result": result}, temporary)
        os.replace(temporary, path)
        return result

    def forget(self, work: Path) -> None:
        """Remove what :meth:`run` kept in ``work`` to resume from, once its results are written."""
        for name in ("fit", "signature"):
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
