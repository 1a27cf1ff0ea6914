"""What a detector is made of."""

from __future__ import annotations

from dataclasses import dataclass

from padim_ace.detect.registry import BACKGROUNDS, COVARIANCES, SIGNATURES, STATISTICS, expect_one_of


@dataclass(frozen=True)
class Detector:
    """A statistic, a background, a covariance structure and, for all but PaDiM, a target signature.

    The defaults are the paper's detector as its text describes it.

    Raises:
        ValueError: for a word that is not registered, a number below 1, or parts that do not fit together.
    """

    statistic: str = "ace"
    """A key of :data:`padim_ace.detect.registry.STATISTICS`."""
    background: str = "patch"
    """A key of :data:`padim_ace.detect.registry.BACKGROUNDS`."""
    covariance: str = "full"
    """A key of :data:`padim_ace.detect.registry.COVARIANCES`."""
    signature: str = "mean"
    """A key of :data:`padim_ace.detect.registry.SIGNATURES`; empty for PaDiM."""
    convention: str = "centred"
    """How it departs from ACE as it is defined (:mod:`padim_ace.paper.published_code`); empty for PaDiM."""
    patches: int = 16
    """Patches of each anomalous image that a mined signature takes."""
    dimensions: int = 8
    """Directions of a target subspace."""
    images: int | None = None
    """How many anomalous images make the signature; all, if None."""

    def __post_init__(self) -> None:
        """Refuse what no detector has."""
        for name, known in (
            ("statistic", STATISTICS),
            ("background", BACKGROUNDS),
            ("covariance", COVARIANCES),
            ("signature", SIGNATURES if self.has_signature else [""]),
        ):
            expect_one_of(name, getattr(self, name), known)
        for name in ("patches", "dimensions", "images"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"{name}: expected 1 or more, found {number}")
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
        """The signature that is gathered for it; subspaces of all dimensions are parts of one."""
        return self.signature, self.patches, self.images

    @property
    def spanned(self) -> int:
        """How many directions its signature has."""
        return self.dimensions if self.has_signature and SIGNATURES[self.signature].spans else 1

    @property
    def bounded(self) -> bool:
        """Whether scores lie in [-1, 1]."""
        return STATISTICS[self.statistic].bounded

    def row(self) -> dict[str, str]:
        """Its columns of ``scores.csv``."""
        return {
            "detector": self.statistic,
            "background": self.background,
            "covariance": self.covariance,
            "signature": self.signature,
            "convention": self.convention,
        }


PADIM = Detector("padim", signature="", convention="")
"""PaDiM: the distance from the background."""
