"""Detectors: a background, an inner product, perhaps a signature, a statistic; and which are run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from padim_ace.detect.background import AGGREGATIONS
from padim_ace.paper.published_code import deviations

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
    (:mod:`padim_ace.detect.signature`). ``mined:16`` pools 16 patches of each image, ``subspace:8`` has 8
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
        """The signature that is gathered for it; subspaces of all dimensions are parts of one."""
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
"""Kelly's statistic with a target subspace, what localises best where images have labels and no masks."""
SUPERVISION: list[Detector] = [
    Detector("ace", "full", "", f"{signature}/{images}", "centred")
    for signature in ("masked", f"mined:{DEFAULT_PATCHES}")
    for images in FEW_IMAGES
]
"""Signatures of few anomalous images."""
