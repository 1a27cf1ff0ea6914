"""PaDiM-ACE as a model of anomalib."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"model": ["AcePostProcessor", "PadimAce"]}
)
