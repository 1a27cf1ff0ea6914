"""One pass over the images for every detector and draw, that is for every seed under every protocol.

Fit pass: the normal images that train, moments for each draw. Signature pass
(``padim_ace.experiment.signature_pass``): the anomalous images that make signatures. Score pass: validation
and test images. Each image goes through the backbone once a pass, whatever the number of detectors and draws,
and on a CPU once in all where a later pass can read its embedding back
(``padim_ace.experiment.image_embeddings``); a seed is an index selection from its feature maps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from padim_ace.detect.backbones import Backbone, fold_batch_norm
from padim_ace.detect.background import Moments, fit_background
from padim_ace.detect.detector import Detector
from padim_ace.detect.embedding import Embedder, FeatureSubset, kept_features
from padim_ace.detect.maps import anomaly_map, smoothing_matrix
from padim_ace.detect.pyramid import Embedding
from padim_ace.detect.registry import PRECISIONS, expect_one_of
from padim_ace.experiment.convention import CENTRED, Convention
from padim_ace.experiment.dataset import Batch, PreparedDataset
from padim_ace.experiment.embedding_store import EmbeddingStore, keep_freed_memory
from padim_ace.experiment.image_embeddings import ImageEmbeddings
from padim_ace.experiment.metrics import Truth
from padim_ace.experiment.protocols import draws
from padim_ace.experiment.provenance import sources
from padim_ace.experiment.resume import FinishedPasses, key_of
from padim_ace.experiment.scorer import Scorer, SignatureSet
from padim_ace.experiment.signature_pass import DrawRun, clutter_images, find_signatures
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

    ``detectors`` are given by protocol. All are judged on its test images, and those of ``validated`` on its
    validation images too.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        backbone: Backbone,
        detectors: Mapping[str, Sequence[Detector]],
        settings: Settings,
        *,
        validated: Sequence[Detector] = (),
        conventions: Mapping[str, Convention] = CENTRED,
    ) -> None:
        self.dataset = dataset
        self.settings = settings
        self.detectors = list(dict.fromkeys(d for judged in detectors.values() for d in judged))
        for detector in self.detectors:
            if detector.has_signature:
                expect_one_of("convention", detector.convention, conventions)
        self.conventions = conventions
        self._judges = {"test": self.detectors, "validation": list(validated)}
        """The detectors that judge images, by the images' role."""
        self.device = torch.device(settings.device)
        sar = {p: any(d.channels != "network" for d in judged) for p, judged in detectors.items()}
        folded = fold_batch_norm(backbone.to(self.device), settings.image_size)
        self.embedder = Embedder(folded, settings.image_size, any(sar.values())).to(self.device)
        self.images = ImageEmbeddings(
            dataset,
            self.embedder,
            batch_size=settings.batch_size,
            precision=settings.precision,
            workers=settings.workers,
        )
        self._smoothing = {
            sigma: [
                smoothing_matrix(patches, pixels, sigma).to(self.device)
                for patches, pixels in zip(self.embedder.grid, settings.image_size, strict=True)
            ]
            for sigma in {d.smoothing for d in self.detectors}
        }
        bounded = [detector.bounded for detector in self.detectors]
        self.tally = Tally(dataset, draws(detectors, settings.seeds), bounded, self.device)
        self.runs = []
        for draw, roles in zip(self.tally.draws, self.tally.roles, strict=True):
            subset = FeatureSubset.draw(self.embedder.channels, settings.features, draw.seed)
            subset = replace(subset, sar=sar[draw.protocol]).to(self.device)
            self.runs.append(DrawRun(draw, list(detectors[draw.protocol]), roles, subset))

    def run(self, work: Path | None = None) -> Tally:
        """All three passes. With a ``work`` folder, a pass that finished there before is not repeated."""
        with torch.inference_mode():
            if self.device.type == "cpu":  # a GPU is faster than a disk
                keep_freed_memory()
                if work is not None:
                    work.mkdir(parents=True, exist_ok=True)
                self.images.store = EmbeddingStore(len(self.dataset), work)
            finished = FinishedPasses(work, self._key(), self.device)
            for run, moments in zip(self.runs, finished.get("fit", self._fit_pass), strict=True):
                run.moments = Moments.from_state(moments)
            self._fit_backgrounds()
            if any(d.has_signature for d in self.detectors):
                signatures = finished.get("signature", self._signature_pass)
                for run, found in zip(self.runs, signatures, strict=True):
                    run.signatures = SignatureSet(**found) if found else None
            self._score_pass()
            self.images.store = EmbeddingStore(0)
            return self.tally

    def _fit_pass(self) -> list[dict]:
        """Moments of the images that train; embeddings that are wanted again are kept on the way."""
        index = self.tally.with_role("train")
        wanted = self._scored | clutter_images(self.runs).any(0)
        for batch, embedding in self.images.batches(index, "fit"):
            self.images.store.add(batch.index, embedding, wanted[batch.index])
            for run in self.runs:
                run.moments.update(run.chosen(embedding, run.members("train", batch.index)))
        return [run.moments.state() for run in self.runs]

    def _fit_backgrounds(self) -> None:
        for run in self.runs:
            features = self.embedder.shape(run.subset).features[-1]
            for kind, channels in sorted({d.space for d in run.detectors}):
                kept = kept_features(features, channels) if run.subset.sar else None
                kept = None if kept is None else kept.to(self.device)
                background = fit_background(run.moments, kind, kept=kept)
                if all(
                    d.covariance == "full" and d.convention in ("", "centred") for d in run.of(kind, channels)
                ):
                    background.covariance = None  # half the memory of many draws
                run.backgrounds[kind, channels] = background
            run.moments = Moments()

    def _signature_pass(self) -> list[dict | None]:
        found = find_signatures(self.images, self.runs, self.conventions, self._scored)
        return [None if signatures is None else vars(signatures) for signatures in found]

    def judged(self, run: DrawRun, role: str = "test") -> list[int]:
        """The numbers of the detectors that judge the images of a role in a draw."""
        judges = [d for d in self._judges[role] if d in run.detectors and (run.roles == role).any()]
        return [self.detectors.index(d) for d in judges]

    @property
    def _scored(self) -> Bool[np.ndarray, " image"]:
        """The images that any detector judges."""
        roles = [(run, role) for run in self.runs for role in self._judges if self.judged(run, role)]
        return np.any([run.roles == role for run, role in roles], axis=0)

    def _score_pass(self) -> None:
        scorers = {
            (number, role): self.scorer(run, judges)
            for number, run in enumerate(self.runs)
            for role in self._judges
            if (judges := self.judged(run, role))
        }
        index = np.flatnonzero(self._scored)
        self.tally.pixel.clear()  # or a second run would count every pixel again
        for batch, embedding in self.images.batches(index, "score", self.dataset.levels):
            truths = {level: Truth.of(masks, self.device) for level, masks in batch.masks.items()}
            for (number, role), scorer in scorers.items():
                self._judge(number, role, scorer, batch, embedding, truths)

    def _judge(
        self,
        number: int,
        role: str,
        scorer: Scorer,
        batch: Batch,
        embedding: Embedding,
        truths: Mapping[str, Truth],
    ) -> None:
        """Score those images of a batch that have a role in the draw of a number."""
        run = self.runs[number]
        members = run.members(role, batch.index)
        if not len(members):
            return
        chosen = run.chosen(embedding, members)
        patches = self.embedder.to_raster(scorer.score(chosen).transpose(0, 1))
        known = {level: truth.select(members) for level, truth in truths.items()}
        for detector, scores in zip(self.judged(run, role), patches, strict=True):
            maps = anomaly_map(scores, *self._smoothing[self.detectors[detector].smoothing])
            self.tally.add((number, detector, role), batch.index[members], maps, known)

    def scorer(self, run: DrawRun, numbers: Sequence[int]) -> Scorer:
        """The scorer of a draw whose background and signatures are known, for the detectors of some
        numbers."""
        return Scorer(
            [self.detectors[n] for n in numbers],
            run.backgrounds,
            run.signatures,
            places=self.embedder.shape(run.subset).places,
            raster=self.embedder.raster,
            seed=run.draw.seed,
            conventions=self.conventions,
        )

    def record(self) -> dict:
        """What each draw drew: the features kept, and the roles of the images (counts, checksum)."""
        drawn = {}
        for run in self.runs:
            names, counts = np.unique(run.roles.astype(str), return_counts=True)
            drawn[f"{run.draw.protocol} {run.draw.seed}"] = {
                "features": run.subset.index(self.embedder.channels).tolist(),
                "roles": dict(zip(names.tolist(), counts.tolist(), strict=True)),
                "roles_sha256": sha256("\n".join(run.roles).encode()).hexdigest(),
            }
        return drawn

    def maps(
        self, images: Float[Tensor, "image 1 row column"], run: DrawRun, detectors: Sequence[Detector]
    ) -> Float[Tensor, "detector image row column"]:
        """The pixel maps of a few images in [0, 1], for figures; after :meth:`run`."""
        with torch.inference_mode():
            scorer = self.scorer(run, [self.detectors.index(d) for d in detectors])
            chosen = run.subset.select(self.images.compute(images))
            patches = self.embedder.to_raster(scorer.score(chosen).transpose(0, 1))
            smoothing = [self._smoothing[d.smoothing] for d in detectors]
            return torch.stack([anomaly_map(p, *s) for p, s in zip(patches, smoothing, strict=True)])

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
            repr(([(run.draw, run.detectors) for run in self.runs], sorted(self.conventions))),
            weights.digest(),
            sources()["sha256"],
            torch.__version__,
        )
