"""Table 1a: accuracy of sources on a dataset that shares their labels, before and after fine-tuning on it."""

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.statistics.grouped import curve_means
from analysis.tables.model import Table, TableRow
from jobs.specs.base import ALL
from jobs.specs.threat_model import Constraint

_CELL = ["dataset", "blocks", "images", "epochs", "origin", "recipe", "numerics"]
_NUMBERS = ("images", "epochs", "accuracy", "low", "high", "trials")
_VARIANT = ("origin", "recipe", "numerics")
_EVALUATION = ("recipe", "numerics")
"""Columns that distinguish evaluations of a source; seeds do not, because all test images are used."""


def table1a(data: pd.DataFrame, attacks: pd.DataFrame) -> Table | None:
    """Return a row for each source itself and for each way of fine-tuning it; None where no dataset has both.

    Args:
        data: evaluations (``frames.frame``).
        attacks: rows of the kind ``attack``, of which those of sources on all clean test images are used.
    """
    clean = attacks["finetuned"].isna() & (attacks["constraint"] == Constraint.NONE.value)
    before = attacks[clean & (attacks["test_images"] == ALL)]
    after = data[data["dataset"].isin(before["dataset"]) & data["source"].isin(before["source"])]
    after = after[after["epoch"] == after["epochs"]]  # may be empty: a file need not contain its last epoch
    if after.empty:
        return None
    before = before[before["dataset"].isin(after["dataset"])]
    varying = [name for name in _VARIANT if after[name].nunique() > 1]
    evaluated = [name for name in _EVALUATION if before[name].nunique() > 1]
    rows = [*_before(before, len(varying), evaluated), *_after(after, varying, len(evaluated))]
    return Table(
        name="table1a",
        title="Test accuracy (%) of sources before and after fine-tuning (cf. Table 1a of the paper)",
        columns=("dataset", "source", "fine-tuned", *_NUMBERS, *varying, *(f"evaluation {name}" for name in evaluated)),
        rows=tuple(sorted(dict.fromkeys(rows), key=lambda row: row[:2])),  # stable: the source first, then by depth
        numbers=frozenset(_NUMBERS),
        notes=(
            "Means after the last epoch; low and high: bounds of the 95 % t interval over seeds, given from five seeds "
            "on. A source without fine-tuning is a single network.",
        ),
    )


def _before(sources: pd.DataFrame, varying: int, evaluated: Sequence[str]) -> Iterator[TableRow]:
    for row in sources.sort_values("trial_id").to_dict("records"):
        accuracy = f"{row['robust_accuracy']:.2f}"
        evaluation = (str(row[name]) for name in evaluated)
        yield row["dataset"], row["source"], "nothing", "", "", accuracy, "", "", "1", *[""] * varying, *evaluation


def _after(trials: pd.DataFrame, varying: Sequence[str], evaluated: int) -> Iterator[TableRow]:
    means = curve_means(trials.sort_values("trial_id"), _CELL, "source", "test_accuracy")
    for row in means.to_dict("records"):
        blocks = {0: "FC layer", 1: "1 block", ALL: "all blocks"}.get(row["blocks"], f"{row['blocks']} blocks")
        images = "all" if row["images"] == ALL else f"{row['images']:,}"
        accuracies = ("" if pd.isna(row[name]) else f"{row[name]:.2f}" for name in ("mean", "low", "high"))
        variant = (*(str(row[name]) for name in varying), *[""] * evaluated)
        yield row["dataset"], row["source"], blocks, images, str(row["epochs"]), *accuracies, str(row["n"]), *variant
