"""Detectors: a background, an inner product, perhaps a signature, a statistic; and how a batch is scored by
many."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from padim_ace.ace import ace, glrt, mahalanobis, matched_filter
from padim_ace.background import AGGREGATIONS, Background
from padim_ace.inner_products import (
    Full,
    InnerProduct,
    Prepared,
    Shape,
    Weighted,
    WrongWay,
    isotropic,
    precision_diagonal,
)
from padim_ace.published_code import deviations, scramble
from padim_ace.pyramid import Embedding, flatten

DEFAULT_PATCHES = 16
DEFAULT_DIMENSIONS = 8
STATISTICS = ("padim", "ace", "amf", "glrt")
BACKGROUNDS = ("patch", "pooled", "shared", "shrunk")
MINED_PATCHES = (4, 16, 64, 256)
"""Patches of each anomalous image that a mined signature may pool; the validation images decide."""
SUBSPACE_DIMENSIONS = (2, 4, 8, 16)
"""Dimensions that a target subspace may have; the validation images decide."""
FEW_IMAGES = (1, 5, 20, 100)
"""How many anomalous images a signature is given, where less supervision is studied."""


@dataclass(frozen=True, order=True)
class Detector:
    """One detector, named as in the columns of ``scores.csv``.

    ``signature`` is ``mean``, ``masked``, ``mined``, ``refined``, ``contrast`` or ``subspace``
    (:mod:`padim_ace.signature`). ``mined:16`` pools 16 patches of each image, ``subspace:8`` has 8
    dimensions; ``/20`` at the end is the number of anomalous images that it is given.

    ``name`` is a statistic (``padim``, ``ace``, ``amf``: adaptive matched filter, ``glrt``: Kelly's), then
    ``_pooled``, ``_shared`` or ``_shrunk`` if the background is not the one per patch.
    """

    name: str
    covariance: str = "full"
    aggregation: str = ""
    signature: str = ""
    convention: str = ""

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS or self.background not in BACKGROUNDS:
            raise ValueError(
                f"detector: expected one of {', '.join(STATISTICS)}, perhaps with _pooled, _shared or "
                f"_shrunk, found {self.name!r}"
            )
        if self.covariance not in ("full", "diagonal", "isotropic"):
            raise ValueError(f"covariance: expected full, diagonal or isotropic, found {self.covariance!r}")
        if self.statistic != "padim":
            if not _SIGNATURE.fullmatch(self.signature):
                raise ValueError(
                    "signature: expected mean, masked, mined, refined, contrast or subspace, perhaps with "
                    f":patches (of mined), :dimensions (of subspace) and /images, found {self.signature!r}"
                )
            switched = deviations(self.convention)
            if self.pooled and (switched or self.covariance != "full"):
                raise ValueError(
                    f"{self.signature} signature: expected full covariance and no deviation, found {self}"
                )
        if (self.covariance == "isotropic") != (self.aggregation in AGGREGATIONS):
            raise ValueError(
                f"aggregation: expected one of {', '.join(AGGREGATIONS)}, only if isotropic, found {self}"
            )

    @property
    def statistic(self) -> str:
        """``padim``, ``ace``, ``amf`` or ``glrt``."""
        return self.name.partition("_")[0]

    @property
    def background(self) -> str:
        """``patch``, ``pooled``, ``shared`` or ``shrunk``."""
        return self.name.partition("_")[2] or "patch"

    @property
    def family(self) -> str:
        """The signature without its numbers."""
        return re.split("[:/]", self.signature)[0]

    @property
    def pooled(self) -> bool:
        """Whether its signature is the same at all places."""
        return self.family not in ("", "mean")

    @property
    def pool(self) -> str:
        """The signature that is gathered for it: subspaces of all dimensions are parts of one."""
        return "subspace" if self.family == "subspace" else self.signature

    @property
    def patches(self) -> int:
        """How many patches of an image are mined, where its signature is mined from images."""
        return self._number if self.family == "mined" and self._number else DEFAULT_PATCHES

    @property
    def dimensions(self) -> int:
        """How many directions its signature has."""
        return (self._number or DEFAULT_DIMENSIONS) if self.family == "subspace" else 1

    @property
    def _number(self) -> int | None:
        found = re.search(r":(\d+)", self.signature)
        return int(found[1]) if found else None

    @property
    def images(self) -> int | None:
        """How many anomalous images make its signature; all, if None."""
        found = re.search(r"/(\d+)", self.signature)
        return int(found[1]) if found else None

    @property
    def deviations(self) -> frozenset[str]:
        """The deviations of the published code that it has."""
        return deviations(self.convention) if self.convention else frozenset()

    @property
    def bounded(self) -> bool:
        """Whether scores lie in [-1, 1]."""
        return self.statistic in ("ace", "glrt")

    def row(self) -> dict[str, str]:
        """Its columns of ``scores.csv``."""
        return {
            "detector": self.name,
            "covariance": self.covariance,
            "aggregation": self.aggregation,
            "signature": self.signature,
            "convention": self.convention,
        }


_SIGNATURE = re.compile(
    r"mean|masked(/\d+)?|mined(:\d+)?(/\d+)?|refined|contrast|subspace(:\d+)?",
)


def _ace(covariance: str, convention: str, aggregation: str = "") -> Detector:
    return Detector("ace", covariance, aggregation, "mean", convention)


PADIM = Detector("padim")
PADIM_ACE = Detector("ace", "full", "", "mean", "centred")
"""The paper's detector as its text describes it."""
CONVENTIONS = ("published", "equation", "centred")
TABLES: list[Detector] = [
    PADIM,
    *(_ace(covariance, convention) for convention in CONVENTIONS for covariance in ("full", "diagonal")),
    *(_ace("isotropic", convention, a) for convention in CONVENTIONS for a in AGGREGATIONS),
]
"""Every detector of the paper's own tables, in the three conventions."""
READINGS: list[Detector] = [PADIM, *(_ace("full", convention) for convention in CONVENTIONS)]
"""PaDiM, and PaDiM-ACE in the three conventions."""

_OF_FULL = ("D1", "D3", "D4", "D5")
DEVIATIONS: list[Detector] = [
    *(Detector("ace", "full", "", "mean", f"centred+{d}") for d in _OF_FULL),
    *(Detector("ace", "full", "", "mean", f"published-{d}") for d in _OF_FULL),
    *(Detector("ace", "diagonal", "", "mean", c) for c in ("centred+D2", "published-D2")),
]
"""Each deviation of the published code switched alone."""

_MINED = [f"mined:{patches}" for patches in MINED_PATCHES]
_SUBSPACE = [f"subspace:{dimensions}" for dimensions in SUBSPACE_DIMENSIONS]
_BEYOND = {
    "ace": ["masked", *_MINED, "refined", "contrast", *_SUBSPACE],
    "amf": ["masked", "mined", "contrast", "subspace"],
    "glrt": ["masked", "mined", "contrast", "subspace"],
    "ace_pooled": ["masked", "mined"],
    "ace_shared": ["masked", "mined"],
    "ace_shrunk": ["masked", "mined"],
}
BEYOND: list[Detector] = [
    *(Detector(f"padim_{kind}") for kind in BACKGROUNDS[1:]),
    *(Detector(name, "full", "", s, "centred") for name, every in _BEYOND.items() for s in every),
]
"""Signatures, backgrounds and statistics beyond the paper's."""
CANDIDATES: list[Detector] = [d for d in BEYOND if d.name == "ace" and ":" in d.signature]
"""Those among which the validation images choose how many patches to mine, and how many dimensions to keep.
"""
PADIM_GLRT = Detector("glrt", "full", "", "subspace", "centred")
"""Kelly's statistic with a target subspace: what localises best where images have labels and no masks."""
SUPERVISION: list[Detector] = [
    Detector("ace", "full", "", f"{signature}/{images}", "centred")
    for signature in ("masked", f"mined:{DEFAULT_PATCHES}")
    for images in FEW_IMAGES
]
"""Signatures of few anomalous images."""


@dataclass
class SignatureSet:
    """What the signature pass found, for one seed."""

    mean: Embedding
    """Mean embedding of the anomalous images."""
    mean_unnormalised: Embedding | None = None
    """The same without the backbone's normalisation (deviation D4)."""
    pooled: Mapping[tuple[str, str], Embedding] = field(default_factory=dict)
    """Whitened signatures, the same at all places, by (:attr:`Detector.pool`, background)."""


class Scorer:
    """Scores embeddings by many detectors of one seed, sharing what they have in common."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        backgrounds: Mapping[str, Background],
        signatures: SignatureSet | None,
        shape: Shape,
        raster: Tensor,
        seed: int,
    ) -> None:
        """Prepare the signatures.

        Args:
            detectors: in the order of the scores.
            backgrounds: by kind.
            signatures: for all but PaDiM.
            shape: of the embeddings.
            raster: :attr:`padim_ace.embedding.Embedder.raster`.
            seed: of the feature subset (deviation D3 depends on the order in which it is drawn).
        """
        self.detectors = list(detectors)
        self.backgrounds = backgrounds
        self._plan: list[_Shared] = []
        sharing: dict[tuple, list[int]] = {}
        for number, detector in enumerate(self.detectors):
            # D1, D2 and D6 change an isotropic variance only, and ACE does not depend on it
            relevant = {"full": {"D1"}, "diagonal": {"D1", "D2"}, "isotropic": set()}[detector.covariance]
            wrong = detector.deviations & relevant
            key = (detector.background, detector.covariance, detector.aggregation, wrong)
            sharing.setdefault(key, []).append(number)
        for (kind, covariance, aggregation, wrong), numbers in sharing.items():
            product = inner_product(backgrounds[kind], covariance, aggregation, wrong, shape)
            with_signature = [n for n in numbers if self.detectors[n].statistic != "padim"]
            if with_signature and signatures is None:
                name = self.detectors[with_signature[0]].name
                raise ValueError(f"{name}: expected a target signature, found none; give anomalous images")
            background = backgrounds[kind]
            groups = [
                _Group([(n, self.detectors[n].dimensions) for n in found], columns, prepared)
                for found, columns, prepared in _prepared(
                    with_signature, self.detectors, product, background, signatures, raster, seed
                )
            ]
            distances = [n for n in numbers if n not in with_signature]
            self._plan.append(_Shared(kind, product, distances, groups))

    def score(self, embedding: Embedding) -> Float[Tensor, "detector place image"]:
        """Patch scores of every detector, places in block order."""
        scores: list[Tensor] = [torch.empty(0)] * len(self.detectors)
        centred = {kind: background.centre(embedding) for kind, background in self.backgrounds.items()}
        for shared in self._plan:
            energy, projections = shared.product.measure(
                centred[shared.background], [group.prepared for group in shared.groups]
            )
            for number in shared.distances:
                scores[number] = mahalanobis(energy)
            samples = self.backgrounds[shared.background].samples
            for group, projection in zip(shared.groups, projections, strict=True):
                for (number, dimensions), column in zip(group.numbers, group.columns, strict=True):
                    along = projection[..., column]
                    if dimensions > 1:  # an orthonormal basis: the length of the projection on their span
                        along = projection[..., column : column + dimensions].square().sum(-1).sqrt()
                    length = group.prepared.energy[:, column, None]
                    statistic = self.detectors[number].statistic
                    if statistic == "ace":
                        scores[number] = ace(along, energy, length)
                    elif statistic == "glrt":
                        scores[number] = glrt(along, energy, length, samples)
                    else:
                        scores[number] = matched_filter(along, length)
        return torch.stack(scores)


@dataclass
class _Group:
    """Detectors whose signatures are prepared together."""

    numbers: list[tuple[int, int]]
    """Number of each detector, and how many directions its signature has."""
    columns: list[int]
    """The first direction of each among those prepared."""
    prepared: Prepared


@dataclass
class _Shared:
    """Detectors that share a background and an inner product."""

    background: str
    product: InnerProduct
    distances: list[int]
    """Numbers of the detectors without a signature."""
    groups: list[_Group]


def inner_product(
    background: Background, covariance: str, aggregation: str, wrong: frozenset[str], shape: Shape
) -> InnerProduct:
    """The inner product of a covariance structure, with deviations D1 and D2 if among ``wrong``."""
    if covariance == "full":
        return WrongWay(background, shape) if "D1" in wrong else Full(background, shape)
    if covariance == "isotropic":
        return isotropic(background, aggregation, shape)
    if "D2" in wrong:
        precision = precision_diagonal(background, shape.places[-1])
        return Weighted(1 / precision if "D1" in wrong else precision, shape)
    variances = background.variances()
    return Weighted([v.clone() if "D1" in wrong else 1 / v for v in variances], shape)


def _prepared(
    numbers: Sequence[int],
    detectors: Sequence[Detector],
    product: InnerProduct,
    background: Background,
    signatures: SignatureSet | None,
    raster: Tensor,
    seed: int,
) -> Iterator[tuple[list[int], list[int], Prepared]]:
    """Signatures prepared together where they have the same form: per place, scrambled, or one for all
    places.

    Yields the detectors' numbers, the first column of each, and what is prepared; a signature that several
    detectors use is prepared once.
    """
    if not numbers:
        return
    assert signatures is not None
    pooled = [n for n in numbers if detectors[n].pooled]
    scrambled = [n for n in numbers if "D3" in detectors[n].deviations]
    plain = [n for n in numbers if n not in pooled and n not in scrambled]
    if pooled:
        assert isinstance(product, Full)
        pools = {(detectors[n].pool, detectors[n].background): 0 for n in pooled}
        parts = [signatures.pooled[pool] for pool in pools]
        end = 0
        for pool, part in zip(pools, parts, strict=True):
            pools[pool] = end
            end += part[0].shape[1]
        columns = [pools[detectors[n].pool, detectors[n].background] for n in pooled]
        yield pooled, columns, product.prepare_whitened(_side_by_side(parts))
    if plain:
        yield (
            plain,
            list(range(len(plain))),
            product.prepare(_side_by_side([_mean(detectors[n], background, signatures) for n in plain])),
        )
    if scrambled:
        fine = []
        for n in scrambled:
            found = scramble(flatten(_mean_image(detectors[n], signatures))[:, 0], raster, seed)
            if "D5" not in detectors[n].deviations:
                found = found - flatten([m.unsqueeze(1) for m in background.mean])[:, 0]
            fine.append(found)
        yield scrambled, list(range(len(scrambled))), product.prepare(torch.stack(fine, -1))


def _side_by_side(embeddings: Sequence[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(stages, 1) for stages in zip(*embeddings, strict=True)]


def _mean_image(detector: Detector, signatures: SignatureSet) -> Embedding:
    if "D4" not in detector.deviations:
        return signatures.mean
    assert signatures.mean_unnormalised is not None
    return signatures.mean_unnormalised


def _mean(detector: Detector, background: Background, signatures: SignatureSet) -> Embedding:
    mean = _mean_image(detector, signatures)
    return mean if "D5" in detector.deviations else background.centre(mean)
