"""Table 1a: accuracy of sources on a dataset whose labels they know, as they are and fine-tuned on it."""

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.figures.points import mean_points
from analysis.tables.model import Row, Table
from jobs.specs import ALL, Constraint

_CELL = ["dataset", "blocks", "images", "epochs", "origin", "recipe", "numerics"]
_NUMBERS = ("images", "epochs", "accuracy", "low", "high", "trials")
_VARIANT = ("origin", "recipe", "numerics")
_EVALUATION = ("recipe", "numerics")
"""What tells the evaluations of a source that is as it is apart; all test images leave nothing to the seed."""


def table1a(data: pd.DataFrame, attacks: pd.DataFrame) -> Table | None:
    """A row for each source as it is, and one for each way in which it was fine-tuned; None where no dataset has both.

    Args:
        data: evaluations (``frames.frame``).
        attacks: rows of the kind ``attack``; those of sources on all clean test images count.
    """
    clean = attacks["finetuned"].isna() & (attacks["constraint"] == Constraint.NONE.value)
    before = attacks[clean & (attacks["test_images"] == ALL)]
    after = data[data["dataset"].isin(before["dataset"]) & data["source"].isin(before["source"])]
    after = after[after["epoch"] == after["epochs"]]  # none, maybe: imported trials need not have their last
    if after.empty:
        return None
    before = before[before["dataset"].isin(after["dataset"])]
    varying = [name for name in _VARIANT if after[name].nunique() > 1]
    evaluated = [name for name in _EVALUATION if before[name].nunique() > 1]
    rows = [*_before(before, len(varying), evaluated), *_after(after, varying, len(evaluated))]
    return Table(
        name="table1a",
        title="Table 1a of the paper: test accuracy (%) of sources before and after fine-tuning",
        columns=("dataset", "source", "fine-tuned", *_NUMBERS, *varying, *(f"evaluation {name}" for name in evaluated)),
        rows=tuple(sorted(dict.fromkeys(rows), key=lambda row: row[:2])),  # stable: as it is first, then by depth
        numbers=frozenset(_NUMBERS),
        notes=(
            "Means after the last epoch; low and high: 95 % t interval over seeds, from five on. A source that nothing "
            "was fine-tuned in is one network.",
        ),
    )


def _before(sources: pd.DataFrame, varying: int, evaluated: Sequence[str]) -> Iterator[Row]:
    for one in sources.sort_values("trial_id").to_dict("records"):
        accuracy = f"{one['robust_accuracy']:.2f}"
        told = (str(one[name]) for name in evaluated)
        yield one["dataset"], one["source"], "nothing", "", "", accuracy, "", "", "1", *[""] * varying, *told


def _after(trials: pd.DataFrame, varying: Sequence[str], evaluated: int) -> Iterator[Row]:
    means = mean_points(trials.sort_values("trial_id"), _CELL, "source", "test_accuracy")
    for one in means.to_dict("records"):
        blocks = {0: "FC layer", 1: "1 block", ALL: "all blocks"}.get(one["blocks"], f"{one['blocks']} blocks")
        images = "all" if one["images"] == ALL else f"{one['images']:,}"
        accuracies = ("" if pd.isna(one[name]) else f"{one[name]:.2f}" for name in ("mean", "low", "high"))
        told = (*(str(one[name]) for name in varying), *[""] * evaluated)
        yield one["dataset"], one["source"], blocks, images, str(one["epochs"]), *accuracies, str(one["n"]), *told
