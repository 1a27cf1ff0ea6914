"""The datasets, one module each: what a release looks like, and how an image of it is read.

A module holds `DATASETS`, its entries by name, and is listed here: one line.
"""

from importlib import import_module

from data_prep.dataset import Dataset

MODULES = [
    "mstar",
    "hrsid",
    "ssdd",
    "simulated",
    "folder",
]
DATASETS: dict[str, Dataset] = {
    name: entry
    for module in MODULES
    for name, entry in import_module(f"{__name__}.{module}").DATASETS.items()
}
"""All datasets, by name."""


def title(name: str) -> str:
    """What tables and pages call a dataset; a name that is none stays as it is."""
    return DATASETS[name].title if name in DATASETS else name
