"""The detectors that are run, and which page shows them."""

from collections.abc import Sequence
from dataclasses import replace

from padim_ace.detect.detector import PADIM, RECOMMENDED, UNSUPERVISED, Detector
from padim_ace.detect.registry import SIGNATURES
from padim_ace.experiment.protocols import ARMS
from padim_ace.paper.published import READING_TITLES

PADIM_ACE = Detector()  #: The paper's detector as its text describes it
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

SUPERVISION: list[Detector] = [replace(RECOMMENDED, images=images) for images in (1, 5, 20, 100)]
"""The recommended detector where few images are known to be anomalous."""
CHANGED: dict[str, Detector] = {
    "as recommended": RECOMMENDED,
    "MI-ACE signature": replace(RECOMMENDED, signature="miace"),
    "masked signature": replace(RECOMMENDED, signature="masked"),
    "Kelly's statistic": replace(RECOMMENDED, statistic="glrt"),
    "ACE": replace(RECOMMENDED, statistic="ace"),
    "no SAR channels": replace(RECOMMENDED, channels="network"),
    "no grey levels": replace(RECOMMENDED, channels="without_grey"),
    "no peak": replace(RECOMMENDED, channels="without_peak"),
    "no power": replace(RECOMMENDED, channels="without_power"),
    "smoothing of 1 px": replace(RECOMMENDED, smoothing=1.0),
    "smoothing of 4 px": replace(RECOMMENDED, smoothing=4.0),
    "shared background": replace(RECOMMENDED, background="shared"),
}
"""The recommended detector, and what it is with one thing changed."""
LOGISTIC = replace(RECOMMENDED, statistic="linear", signature="logistic")
"""Its equal in supervision: logistic regression on the same whitened patches."""
PEERS: list[Detector] = [
    PADIM,
    replace(PADIM, smoothing=2.0),
    UNSUPERVISED,
    LOGISTIC,
]
"""What the recommended detector is compared with, of this project's own."""
DETECTORS: dict[str, list[Detector]] = {
    "scenes": [*READINGS[1:2], PADIM_ACE, *PEERS, *CHANGED.values(), *SUPERVISION],
    "paper": [*TABLES, *DEVIATIONS],
    **dict.fromkeys(ARMS, [PADIM, PADIM_ACE]),
}
"""All that are run, by protocol; the example maps are of the first."""
VALIDATED: list[Detector] = [*READINGS, *CHANGED.values()]
"""Those that judge the validation images too, for a choice, a threshold or the clamp."""
EXAMPLES: dict[str, Detector] = {"padim": PADIM, "ace": PADIM_ACE, "recommended": RECOMMENDED}
"""Those whose heat maps are shown."""


def without_masks(detectors: Sequence[Detector]) -> list[Detector]:
    """Those of the detectors that need no masks of the training images."""
    return [d for d in detectors if not d.has_signature or SIGNATURES[d.signature].supervision != "masks"]
