"""Which class is taken for which: the confusion table of ``classes.csv``, and what it says."""

from __future__ import annotations

import pandas as pd

from padim_ace.report.html_tables import Cell

RULES = {"ace": "signatures of classes (ACE)", "logistic": "logistic regression"}
"""What tells classes apart (:mod:`padim_ace.experiment.classes`), in words."""


def confusion_table(counts: pd.DataFrame) -> pd.DataFrame:
    """One rule's counts: a row for each true class, the parts of its images in %, right ones in bold."""
    wide = counts.pivot_table(index="true", columns="predicted", values="images", aggfunc="sum").fillna(0)
    wide = wide.reindex(columns=wide.index, fill_value=0)
    shares = 100 * wide.div(wide.sum(1), axis=0)
    rows = [
        {"True class": true, "Images": int(wide.loc[true].sum())}
        | {name: Cell(f"{share:.0f}", bold=name == true) for name, share in row.items()}
        for true, row in shares.iterrows()
    ]
    return pd.DataFrame(rows)


def accuracy(counts: pd.DataFrame) -> float:
    """The part of one rule's images whose class was found."""
    return counts.loc[counts["true"] == counts["predicted"], "images"].sum() / counts["images"].sum()


def sentence(counts: pd.DataFrame) -> str:
    """How much each rule of a dataset gets right, beside chance, and what the signatures confuse most."""
    parts = [f"{RULES[rule]} {100 * accuracy(rows):.1f} %" for rule, rows in counts.groupby("rule")]
    ace = counts[counts["rule"] == "ace"]
    chance = ace.groupby("true")["images"].sum().max() / ace["images"].sum()
    wrong = ace[ace["true"] != ace["predicted"]].sort_values("images", ascending=False).head(3)
    confused = ", ".join(f"{row.true} as {row.predicted} ({row.images})" for row in wrong.itertuples())
    return (
        f"Of {ace['images'].sum()} images the class is found in: {', '.join(parts)}, "
        f"always the commonest class {100 * chance:.1f} %. Most often mistaken: {confused or 'none'}."
    )
