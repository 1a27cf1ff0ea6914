"""One pass over the images for every detector and seed.

Fit pass: the normal images that train, moments for each seed. Signature pass
(``padim_ace.experiment.signature_pass``): the anomalous images of the release's train split. Score pass:
validation and test images. Each image goes through the backbone once a pass, whatever the number of detectors
and seeds, and on a CPU once in all where a later pass can read its embedding back
(``padim_ace.experiment.image_embeddings``); a seed is an index selection from its feature maps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.detect.backbones import Backbone, fold_batch_norm
from padim_ace.detect.background import Moments, fit_background
from padim_ace.detect.detector import Detector
from padim_ace.detect.embedding import Embedder, FeatureSubset
from padim_ace.detect.maps import anomaly_map, smoothing_matrix
from padim_ace.detect.pyramid import Embedding
from padim_ace.detect.registry import PRECISIONS, expect_one_of
from padim_ace.experiment.convention import CENTRED, Convention
from padim_ace.experiment.dataset import Batch, PreparedDataset
from padim_ace.experiment.embedding_store import EmbeddingStore, keep_freed_memory
from padim_ace.experiment.image_embeddings import ImageEmbeddings
from padim_ace.experiment.metrics import Truth
from padim_ace.experiment.provenance import sources
from padim_ace.experiment.resume import FinishedPasses, key_of
from padim_ace.experiment.scorer import Scorer, SignatureSet
from padim_ace.experiment.signature_pass import SeedRun, clutter_images, find_signatures
from padim_ace.experiment.tally import Tally


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
        expect_one_of("precision", self.precision, PRECISIONS)


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
        *,
        validated: Sequence[Detector] = (),
        conventions: Mapping[str, Convention] = CENTRED,
    ) -> None:
        self.dataset = dataset
        self.settings = settings
        self.detectors = list(detectors)
        for detector in self.detectors:
            if detector.has_signature:
                expect_one_of("convention", detector.convention, conventions)
        self.conventions = conventions
        self._judged = {"test": list(range(len(self.detectors)))}
        """Numbers of the detectors that judge images, by the images' role."""
        if validated:
            self._judged["validation"] = [self.detectors.index(d) for d in validated]
        self.device = torch.device(settings.device)
        folded = fold_batch_norm(backbone.to(self.device), settings.image_size)
        self.embedder = Embedder(folded, settings.image_size).to(self.device)
        self.images = ImageEmbeddings(
            dataset,
            self.embedder,
            batch_size=settings.batch_size,
            precision=settings.precision,
            workers=settings.workers,
        )
        rows, columns = map(smoothing_matrix, self.embedder.grid, settings.image_size)
        self._smoothing = rows.to(self.device), columns.to(self.device)
        bounded = [detector.bounded for detector in self.detectors]
        self.tally = Tally(dataset, settings.seeds, bounded, self.device)
        self.seeds = []
        for seed, roles in zip(settings.seeds, self.tally.roles, strict=True):
            subset = FeatureSubset.draw(self.embedder.channels, settings.features, seed)
            self.seeds.append(SeedRun(seed, roles, subset.to(self.device)))

    def run(self, work: Path | None = None) -> Tally:
        """All three passes. With a ``work`` folder, a pass that finished there before is not repeated."""
        with torch.inference_mode():
            if self.device.type == "cpu":  # a GPU is faster than a disk
                keep_freed_memory()
                if work is not None:
                    work.mkdir(parents=True, exist_ok=True)
                self.images.store = EmbeddingStore(len(self.dataset), work)
            finished = FinishedPasses(work, self._key(), self.device)
            for seed, moments in zip(self.seeds, finished.get("fit", self._fit_pass), strict=True):
                seed.moments = Moments.from_state(moments)
            self._fit_backgrounds()
            if any(d.has_signature for d in self.detectors):
                signatures = finished.get("signature", self._signature_pass)
                for seed, found in zip(self.seeds, signatures, strict=True):
                    seed.signatures = SignatureSet(**found)
            self._score_pass()
            self.images.store = EmbeddingStore(0)
            return self.tally

    def _fit_pass(self) -> list[dict]:
        """Moments of the images that train; embeddings that are wanted again are kept on the way."""
        index = self.tally.with_role("train")
        wanted = np.isin(np.arange(len(self.dataset)), self.tally.with_role(*self._judged))
        wanted |= clutter_images(self.seeds, self.detectors).any(0)
        for batch, embedding in self.images.batches(index, "fit"):
            self.images.store.add(batch.index, embedding, wanted[batch.index])
            for seed in self.seeds:
                train = np.flatnonzero(seed.roles[batch.index] == "train")
                seed.moments.update(seed.chosen(embedding, train))
        return [seed.moments.state() for seed in self.seeds]

    def _fit_backgrounds(self) -> None:
        for seed in self.seeds:
            for kind in sorted({d.background for d in self.detectors}):
                seed.backgrounds[kind] = fit_background(seed.moments, kind)
            seed.moments = Moments()

    def _signature_pass(self) -> list[dict]:
        return [vars(s) for s in find_signatures(self.images, self.seeds, self.detectors, self.conventions)]

    def _score_pass(self) -> None:
        scorers = {
            (number, role): self.scorer(seed, judges)
            for number, seed in enumerate(self.seeds)
            for role, judges in self._judged.items()
        }
        index = self.tally.with_role(*self._judged)
        self.tally.pixel.clear()  # or a second run would count every pixel again
        for batch, embedding in self.images.batches(index, "score", self.dataset.has_masks):
            truth = Truth.of(batch.masks, self.device) if batch.masks is not None else None
            for (number, role), scorer in scorers.items():
                self._judge(number, role, scorer, batch, embedding, truth)

    def _judge(
        self,
        number: int,
        role: str,
        scorer: Scorer,
        batch: Batch,
        embedding: Embedding,
        truth: Truth | None,
    ) -> None:
        """Score those images of a batch that have a role in the seed of a number."""
        members = self.tally.members(number, batch.index, role)
        if not len(members):
            return
        chosen = self.seeds[number].chosen(embedding, members)
        patches = self.embedder.to_raster(scorer.score(chosen).transpose(0, 1))
        # the example maps, of the first seed, take their thresholds from its validation images
        judges_pixels = truth is not None and (role == "test" or number == 0)
        known = truth.select(members) if truth is not None and judges_pixels else None
        for detector, scores in zip(self._judged[role], patches, strict=True):
            maps = anomaly_map(scores, *self._smoothing)
            self.tally.add((number, detector, role), batch.index[members], maps, known)

    def scorer(self, seed: SeedRun, numbers: Sequence[int] | None = None) -> Scorer:
        """The scorer of a seed whose background and signatures are known, for the detectors of some numbers
        or all."""
        chosen = self.detectors if numbers is None else [self.detectors[n] for n in numbers]
        return Scorer(
            chosen,
            seed.backgrounds,
            seed.signatures,
            shape=self.embedder.shape(seed.subset),
            raster=self.embedder.raster,
            seed=seed.seed,
            conventions=self.conventions,
        )

    def record(self) -> dict:
        """What each seed drew: the features kept, and the roles of the images (counts, checksum)."""
        drawn = {}
        for seed in self.seeds:
            names, counts = np.unique(seed.roles.astype(str), return_counts=True)
            drawn[str(seed.seed)] = {
                "features": seed.subset.index(self.embedder.channels).tolist(),
                "roles": dict(zip(names.tolist(), counts.tolist(), strict=True)),
                "roles_sha256": sha256("\n".join(seed.roles).encode()).hexdigest(),
            }
        return drawn

    def maps(
        self, images: Float[Tensor, "image 1 row column"], seed: SeedRun
    ) -> Float[Tensor, "detector image row column"]:
        """The pixel maps of a few images in [0, 1], for figures; after :meth:`run`."""
        with torch.inference_mode():
            chosen = seed.subset.select(self.images.compute(images))
            patches = self.embedder.to_raster(self.scorer(seed).score(chosen).transpose(0, 1))
            return anomaly_map(patches, *self._smoothing)

    def forget(self, work: Path) -> None:
        """Remove what :meth:`run` kept in ``work`` to resume from, once its results are written."""
        for path in work.glob("*.pt"):
            path.unlink()

    def _key(self) -> str:
        """Changes with whatever a pass depends on, the code and the versions of libraries included."""
        weights = sha256()
        for tensor in self.embedder.backbone.state_dict().values():
            weights.update(tensor.cpu().contiguous().numpy().tobytes())
        return key_of(
            self.dataset.manifest.to_csv(),
            json.dumps(asdict(self.settings), sort_keys=True),
            repr((self.detectors, sorted(self.conventions))),
            weights.digest(),
            sources()["sha256"],
            torch.__version__,
        )
