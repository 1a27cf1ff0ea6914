"""Data preparation: raw SAR releases to one prepared layout with target-free normal images."""

from data_prep.dataset import Dataset, Item, Parameters, Record
from data_prep.datasets import DATASETS, title
from data_prep.errors import DataError
from data_prep.pipeline import prepare
from data_prep.prepared import read_manifest

__all__ = [
    "DATASETS", "DataError", "Dataset", "Item", "Parameters", "Record", "prepare", "read_manifest", "title"
]  # fmt: skip
