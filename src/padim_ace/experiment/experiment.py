"""One pass over the images for every detector and draw, that is for every seed under every protocol.

Fit pass: the normal images that train, moments for each draw. Signature pass
(``padim_ace.experiment.signature_pass``): the anomalous images that make signatures. Score pass: validation
and test images. Each image goes through the backbone once a pass, whatever the number of detectors and draws,
and on a CPU once in all where a later pass can read its embedding back
(``padim_ace.experiment.embeddings``); a seed is an index selection from its feature maps.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_prep.files import write_atomic
from padim_ace.detect.backbones import Backbone, fold_batch_norm
from padim_ace.detect.background import Moments, fit_background
from padim_ace.detect.detector import Detector
from padim_ace.detect.embedding import Embedder, FeatureSubset, kept_features
from padim_ace.detect.maps import anomaly_map, smoothing_matrix
from padim_ace.detect.pyramid import Embedding
from padim_ace.detect.registry import PRECISIONS, expect_one_of
from padim_ace.experiment.dataset import PreparedDataset
from padim_ace.experiment.embeddings import EmbeddingStore, ImageEmbeddings, keep_freed_memory
from padim_ace.experiment.metrics import Truth
from padim_ace.experiment.protocols import draws
from padim_ace.experiment.provenance import sources
from padim_ace.experiment.scorer import CENTRED, Convention, Scorer, SignatureSet
from padim_ace.experiment.signature_pass import DrawRun, clutter_images, find_signatures
from padim_ace.experiment.tally import Tally


@dataclass(frozen=True)
class Settings:
    """What an experiment does beside its data, backbone and detectors."""

    seeds: tuple[int, ...] = (0, 1, 2)
    features: int = 100
    image_size: tuple[int, int] = (256, 256)
    batch_size: int = 64  #: A larger one makes many seeds cheaper, as factors and sums are read once a batch
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
        s = settings
        self.images = ImageEmbeddings(dataset, self.embedder, s.batch_size, s.precision, s.workers)
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
            key = self._key()
            fit, signature = (work and work / f"{name}.pt" for name in ("fit", "signature"))
            for run, moments in zip(self.runs, resumed(fit, key, self.device, self._fit_pass), strict=True):
                run.moments = Moments.from_state(moments)
            self._fit_backgrounds()
            if any(d.has_signature for d in self.detectors):
                signatures = resumed(signature, key, self.device, self._signature_pass)
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
                used = [d for d in run.detectors if d.space == (kind, channels)]
                if all(d.covariance == "full" and d.convention in ("", "centred") for d in used):
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
                run = self.runs[number]
                members = run.members(role, batch.index)
                if not len(members):
                    continue
                known = {level: truth.select(members) for level, truth in truths.items()}
                maps = self._maps(scorer, run.chosen(embedding, members))
                for detector, of_detector in zip(self.judged(run, role), maps, strict=True):
                    self.tally.add((number, detector, role), batch.index[members], of_detector, known)

    def _maps(self, scorer: Scorer, embedding: Embedding) -> Iterator[Float[Tensor, "image row column"]]:
        """The pixel maps of each of a scorer's detectors."""
        patches = self.embedder.to_raster(scorer.score(embedding).transpose(0, 1))
        for detector, scores in zip(scorer.detectors, patches, strict=True):
            yield anomaly_map(scores, *self._smoothing[detector.smoothing])

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
            return torch.stack([*self._maps(scorer, run.subset.select(self.images.compute(images)))])

    def forget(self, work: Path) -> None:
        """Remove what :meth:`run` kept in ``work`` to resume from, once its results are written."""
        for path in work.glob("*.pt"):
            path.unlink()

    def _key(self) -> str:
        """Changes with whatever a pass depends on, the code and the versions of libraries included."""
        facts = [
            self.dataset.manifest.to_csv(),
            json.dumps(asdict(self.settings), sort_keys=True),
            repr(([(run.draw, run.detectors) for run in self.runs], sorted(self.conventions))),
            sources()["sha256"],
            torch.__version__,
        ]
        key = sha256("\n".join(facts).encode())
        for tensor in self.embedder.backbone.state_dict().values():
            key.update(tensor.cpu().contiguous().numpy().tobytes())
        return key.hexdigest()


def resumed(path: Path | None, key: str, device: torch.device, compute: Callable[[], Any]) -> Any:
    """The result of a finished pass (tensors, numbers, strings and containers of them), kept at ``path``.

    It is computed if it is not there, or was computed under another key; without a path none is kept.
    """
    if path is None:
        return compute()
    if path.is_file():
        kept = torch.load(path, map_location=device, weights_only=True)
        if kept["key"] == key:
            return kept["value"]
    value, content = compute(), io.BytesIO()
    torch.save({"key": key, "value": value}, content)
    write_atomic(path, content.getvalue())
    return value


def write_examples(
    experiment: Experiment, shown: Mapping[str, Detector], order_by: str, path: Path, count: int = 6
) -> None:
    """Maps of a few test images of the first draw as ``.npz``; written whole or not at all.

    The anomalous test images are ordered by an image score, and ``count`` are taken at equal steps from the
    lowest to the highest: failures are among them, and nobody chose. Thresholds are of the best pixel F1 on
    its validation images, or, where there are no masks, the highest score of a normal one. ``shown``
    has the detectors by the names that their arrays end in; ``order_by`` is one of these names.
    """
    run, dataset = experiment.runs[0], experiment.dataset
    numbers = {key: experiment.detectors.index(detector) for key, detector in shown.items()}
    test = np.flatnonzero((run.roles == "test") & dataset.anomalous)
    ordered = test[np.argsort(experiment.tally.image[0, numbers[order_by], test], kind="stable")]
    chosen = ordered[np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)]
    size = experiment.settings.image_size
    images = torch.stack([dataset.image(i, size) for i in chosen.tolist()])
    maps = experiment.maps(images, run, [*shown.values()]).float().cpu().numpy()
    arrays = {
        "image": (images[:, 0] * 255).round().byte().numpy(),
        "mask": np.zeros((len(chosen), *size), bool),
        "names": dataset.manifest["path"].iloc[chosen].to_numpy(dtype=str),
    }
    if "pixel" in dataset.levels:
        arrays["mask"] = np.stack([dataset.mask(i, size).numpy() for i in chosen.tolist()])
    normal = (run.roles == "validation") & ~dataset.anomalous
    for (key, number), of_detector in zip(numbers.items(), maps, strict=True):
        arrays[f"heat_{key}"] = of_detector
        threshold = experiment.tally.image[0, number, normal].max()
        if "pixel" in dataset.levels:
            threshold = experiment.tally.pixel[0, number, "validation", "pixel"].best_threshold()
        arrays[f"threshold_{key}"] = np.array(threshold)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_atomic(path, content.getvalue())
