"""The values of one detector by seed, and what is said of them. All numbers are percent, or points of it."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from padim_ace.experiment.intervals import half_width


class Summary(NamedTuple):
    """Values of several seeds in a few numbers; what too few seeds can't give is NaN."""

    mean: float
    std: float
    """Standard deviation of single values, with n - 1."""
    half: float
    """Half the width of the 95 % interval of the mean, corrected for splits that overlap."""
    seeds: int

    @property
    def above(self) -> bool:
        """Whether the mean is above zero by more than the interval, so that it may be called a gain."""
        return self.mean > self.half

    @property
    def below(self) -> bool:
        """Whether the mean is below zero by more than the interval."""
        return -self.mean > self.half


def select(scores: pd.DataFrame, column: str = "value", **where: str | int) -> pd.Series:
    """Values in percent by seed, of the rows whose columns have the given words; empty if there are none.

    Raises:
        ValueError: if a seed has several rows, because ``where`` fits more than one detector.
    """
    rows = scores
    for name, word in where.items():
        rows = rows[rows[name] == word]
    return 100 * rows.set_index("seed", verify_integrity=True)[column].astype(float).sort_index()


def summarise(values: pd.Series) -> Summary:
    """Summarise values by seed."""
    n, std = len(values), float(values.std())
    return Summary(float(values.mean()), std, half_width(0.95, (std, n)), n)


def gain(ours: pd.Series, theirs: pd.Series) -> Summary:
    """The paired difference over the seeds that both have: a seed decides splits and features of both."""
    return summarise((ours - theirs).dropna())


def number_text(value: float, form: str = ".2f") -> str:
    """A number as text, with a true minus sign, and with none before a zero; – for a missing one."""
    if pd.isna(value):
        return "–"
    text = format(value, form)
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def spread_text(mean: float, spread: float, form: str = ".2f") -> str:
    """``84.99 ± 2.56``; without the spread where there is none, and – without a mean."""
    if pd.isna(mean) or pd.isna(spread):
        return number_text(mean, form)
    return f"{number_text(mean, form)} ± {number_text(spread, form.lstrip('+'))}"
