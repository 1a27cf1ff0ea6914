"""Data preparation: raw SAR releases to one prepared layout with target-free normal images."""

from data_prep.errors import DataError
from data_prep.pipeline import DATASETS, prepare
from data_prep.prepared import read_manifest

__all__ = ["DATASETS", "DataError", "prepare", "read_manifest"]
