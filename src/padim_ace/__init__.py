"""PaDiM-ACE: anomaly detection and localisation in SAR imagery."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from padim_ace.anomalib.model import PadimAce

__all__ = ["PadimAce"]


def __getattr__(name: str) -> Any:
    """``PadimAce`` on demand: anomalib takes seconds to import, and the rest of the package needs it not."""
    if name == "PadimAce":
        from padim_ace.anomalib.model import PadimAce

        return PadimAce
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
