"""The detectors that are run, and which page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from padim_ace.detect.detector import PADIM, Detector
from padim_ace.detect.registry import SIGNATURES
from padim_ace.experiment.protocols import ARMS
from padim_ace.paper.published import READING_TITLES

PADIM_ACE = Detector()
"""The paper's detector as its text describes it."""
TABLES: list[Detector] = [
    PADIM,
    *(
        Detector(covariance=covariance, convention=convention)
        for convention in READING_TITLES
        for covariance in ("full", "diagonal", "isotropic")
    ),
]
"""The detectors of the paper's own tables. The four aggregations of Table 4 are one detector."""
READINGS: list[Detector] = [PADIM, *(Detector(convention=convention) for convention in READING_TITLES)]
"""PaDiM, and PaDiM-ACE in the three conventions."""

_OF_FULL = ("D1", "D3", "D4", "D5")
DEVIATIONS: list[Detector] = [
    *(Detector(convention=f"centred+{d}") for d in _OF_FULL),
    *(Detector(convention=f"published-{d}") for d in _OF_FULL),
    *(Detector(covariance="diagonal", convention=c) for c in ("centred+D2", "published-D2")),
]
"""Each deviation of the published code switched alone."""

ACE_MASKED = Detector(signature="masked")
GLRT_SUBSPACE = Detector("glrt", signature="subspace")
"""Kelly's statistic with a target subspace, what localises best where images have labels and no masks."""
_MINED = [Detector(signature="mined", patches=patches) for patches in (4, 16, 64, 256)]
_SUBSPACE = [Detector(signature="subspace", dimensions=dimensions) for dimensions in (2, 4, 8, 16)]
CANDIDATES: list[Detector] = [*_MINED, *_SUBSPACE]
"""The validation images decide which of these numbers of patches and of dimensions are kept."""
BEYOND: list[Detector] = [
    replace(PADIM, background="shared"),
    ACE_MASKED,
    *_MINED,
    Detector(signature="contrast"),
    *_SUBSPACE,
    *(Detector("glrt", signature=signature) for signature in ("masked", "mined", "contrast", "subspace")),
    *(Detector(background="shared", signature=signature) for signature in ("masked", "mined")),
]
"""Signatures, backgrounds and statistics beyond the paper's."""
SUPERVISION: list[Detector] = [Detector(signature="mined", images=images) for images in (1, 5, 20)]
"""Signatures of few anomalous images."""
DETECTORS: dict[str, list[Detector]] = {
    "scenes": [PADIM, PADIM_ACE, replace(PADIM_ACE, convention="published"), *BEYOND, *SUPERVISION],
    "paper": [*TABLES, *DEVIATIONS],
    **dict.fromkeys(ARMS, [PADIM, PADIM_ACE]),
}
"""All that are run, by protocol; the example maps are of the first."""
VALIDATED: list[Detector] = [*READINGS, *CANDIDATES, GLRT_SUBSPACE]
"""Those that judge the validation images too, for a choice, a threshold or the clamp."""
BY_AREA: list[Detector] = [PADIM, PADIM_ACE, ACE_MASKED, GLRT_SUBSPACE]
"""Those that are asked about targets of different sizes."""
EXAMPLES: dict[str, Detector] = {"padim": PADIM, "ace": PADIM_ACE, "subspace": GLRT_SUBSPACE}
"""Those whose heat maps are shown."""


def without_masks(detectors: Sequence[Detector]) -> list[Detector]:
    """Those of the detectors that need no masks of the training images."""
    return [d for d in detectors if not d.has_signature or SIGNATURES[d.signature].supervision != "masks"]
