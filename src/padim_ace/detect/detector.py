"""What a detector is made of."""

from dataclasses import dataclass

from padim_ace.detect import registry
from padim_ace.detect.registry import SIGNATURES, STATISTICS


@dataclass(frozen=True)
class Detector:
    """A statistic, a background, a covariance structure and, for all but PaDiM, a target signature.

    The defaults are the paper's detector as its text describes it.

    Raises:
        ValueError: for a word that is not registered, a number below 1, or parts that do not fit together.
    """

    statistic: str = "ace"  #: A key of ``detect.STATISTICS``
    background: str = "patch"  #: A key of :data:`padim_ace.detect.registry.BACKGROUNDS`
    covariance: str = "full"  #: A key of :data:`padim_ace.detect.registry.COVARIANCES`
    signature: str = "mean"  #: A key of ``detect.SIGNATURES``; empty for PaDiM
    convention: str = "centred"
    """How it departs from ACE as it is defined (:mod:`padim_ace.paper.published_code`); empty for PaDiM."""
    channels: str = "network"  #: A key of :data:`padim_ace.detect.registry.CHANNELS`
    smoothing: float = 4.0  #: Standard deviation, px, of the Gaussian that smooths its map; 4 is PaDiM's
    images: int | None = None  #: How many anomalous images make the signature; all, if None

    def __post_init__(self) -> None:
        """Refuse what no detector has."""
        for name, known in (
            ("statistic", STATISTICS),
            ("background", registry.BACKGROUNDS),
            ("covariance", registry.COVARIANCES),
            ("signature", SIGNATURES if self.has_signature else [""]),
            ("channels", registry.CHANNELS),
        ):
            registry.expect_one_of(name, getattr(self, name), known)
        if self.images is not None and self.images < 1:
            raise ValueError(f"images: expected 1 or more, found {self.images}")
        if not 0 <= self.smoothing <= 32:
            raise ValueError(f"smoothing: expected 0 to 32 pixels, found {self.smoothing}")
        if self.pooled and (self.covariance != "full" or self.convention != "centred"):
            raise ValueError(
                f"{self.signature} signature: expected a full covariance and the convention centred, found "
                f"{self.covariance} and {self.convention}; give the signature mean"
            )

    @property
    def has_signature(self) -> bool:
        """Whether it looks for a target; PaDiM does not."""
        return self.statistic not in STATISTICS or STATISTICS[self.statistic].needs_signature

    @property
    def pooled(self) -> bool:
        """Whether its signature is the same at all places."""
        return self.signature in SIGNATURES and SIGNATURES[self.signature].pooled

    @property
    def pool(self) -> tuple:
        """What its signature is made of, where that is one direction for all places."""
        return self.signature, self.images

    @property
    def space(self) -> tuple[str, str]:
        """The background that it is measured from, and the channels that make the embedding."""
        return self.background, self.channels

    @property
    def bounded(self) -> bool:
        """Whether scores lie in [-1, 1]."""
        return STATISTICS[self.statistic].bounded

    def row(self) -> dict[str, str]:
        """Its columns of ``scores.csv``."""
        words = ("background", "covariance", "signature", "convention", "channels")
        named = {"detector": self.statistic} | {name: getattr(self, name) for name in words}
        return named | {"smoothing": f"{self.smoothing:g}"}


PADIM = Detector("padim", signature="", convention="")  #: PaDiM: the distance from the background
RECOMMENDED = Detector("tolerant", signature="lace", channels="sar", smoothing=2.0)
"""What this project recommends where there are anomalous images; labels of images are enough."""
UNSUPERVISED = Detector("padim", signature="", convention="", channels="sar", smoothing=2.0)
"""What this project recommends where there are none."""
