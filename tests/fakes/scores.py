"""Rows of ``scores.csv``, made up."""

import pandas as pd

from padim_ace.experiment.results import SCORES
from padim_ace.report.tables import row_of


def rows(of, values, **changed):
    """Fractions by seed of a detector, or a baseline by its name: image AUROC on SSDD but for ``changed``."""
    plain = {
        "dataset": "ssdd",
        "backbone": "resnet18",
        "protocol": "paper",
        "level": "image",
        "metric": "auroc",
    }
    row = plain | row_of(of) | changed
    table = [row | {"seed": seed, "value": value} for seed, value in enumerate(values)]
    return pd.DataFrame(table, columns=[*SCORES, *(set(row) - set(SCORES))])
