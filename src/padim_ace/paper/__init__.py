"""The paper: what its published code computes, the numbers that it gives, the detectors of its tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "published_code": ["CONVENTIONS", "DEVIATIONS", "Deviating", "scramble"],
        "published": ["read_published", "verdict"],
        "detectors": ["DETECTORS", "PADIM_ACE", "READINGS", "VALIDATED"],
    },
)
