"""PaDiM-ACE: anomaly detection and localisation in SAR imagery."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["anomalib", "detect", "experiment", "paper", "report", "scene"],
    submod_attrs={"anomalib": ["PadimAce"]},
)
