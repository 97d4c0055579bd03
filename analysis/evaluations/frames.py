"""Evaluations as a pandas frame, and functions that filter its rows."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import pandas as pd
import pyarrow as pa
from pandas.api.types import is_integer_dtype

from analysis.evaluations.lengths import Plan, with_lengths
from jobs.errors import Code, InvalidRequest
from jobs.specs.base import ALL
from jobs.system.given import several, whole

Epoch: TypeAlias = int | Literal["last", "all"]
"""Which evaluations to select: those after one epoch (counted from 1), after each trial's last epoch, or all."""

Choice: TypeAlias = str | int | Sequence[str | int] | None
"""A value, several values, or None for all values."""

HEADLINE_BLOCKS = 3
"""The number of fine-tuned blocks in the paper's headline figures and in its Table 7."""

UNRECORDED = -1
"""Seed of an imported trial whose seed was not recorded. Such a trial is never paired."""

COLUMNS = (
    "trial_id",
    "source",
    "constraint",
    "epsilon",
    "dataset",
    "blocks",
    "images",
    "images_used",
    "seed",
    "epoch",
    "epochs",
    "recipe",
    "numerics",
    "origin",
    "test_accuracy",
    "subset_sha256",
)


def frame(evaluations: pa.Table, plan: Plan | None = None) -> pd.DataFrame:
    """Return the columns needed for deltas and curves, in an order independent of the order of files and rows.

    ``length`` and ``main`` are added to them (``analysis.evaluations.lengths``).

    Unknown numerics (imported trials) become 0, so that they can serve as an ordinary key. Trials that differ only in
    ``evaluate_every`` are the same training, evaluated at different intervals. Where they agree in accuracy and subset
    digest, as they must, each evaluation is kept once; ``evaluations.num_rows`` minus the length of the frame is the
    number of rows dropped.

    Args:
        plan: the lengths that studies plan; None: no study is known.
    """
    data: pd.DataFrame = evaluations.select(list(COLUMNS)).to_pandas()
    data["numerics"] = data["numerics"].fillna(0).astype("int64")
    data = data.sort_values(["trial_id", "epoch"], kind="stable", ignore_index=True)
    again = data.duplicated([name for name in COLUMNS if name != "trial_id"]) & (data["seed"] != UNRECORDED)
    return with_lengths(data[~again].reset_index(drop=True), plan)


def at_epoch(data: pd.DataFrame, epoch: Epoch) -> pd.DataFrame:
    """Return the evaluations after ``epoch``; ``last`` is each trial's own last epoch, which is always evaluated.

    Raises:
        InvalidRequest: when no trial was evaluated after that epoch.
    """
    if epoch == "all":
        return data
    chosen = data[data["epoch"] == (data["epochs"] if epoch == "last" else epoch)]
    if chosen.empty and not data.empty:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"no trial was evaluated after epoch {epoch}; evaluated epochs: {_listing(data['epoch'])}. "
            "Fix: choose one of these, or 'last'",
            key="--epoch",
        )
    return chosen


def where(data: pd.DataFrame, **choices: Choice) -> pd.DataFrame:
    """Return the rows whose columns have the chosen values; None selects all values. Whole numbers may be given as
    text, or as numbers of numpy.

    Raises:
        InvalidRequest: for a value that no row has; the message lists the values that exist.
    """
    narrowed = ""
    for column, choice in choices.items():
        if choice is None:
            continue
        wanted = [whole(value) if is_integer_dtype(data[column]) else value for value in several(choice)]
        present = data[column].unique().tolist()
        unknown = [value for value in wanted if value not in present]
        if unknown:
            values = ", ".join(map(str, unknown))
            raise InvalidRequest(
                Code.UNKNOWN_NAME,
                f"no evaluation{narrowed} has the {column} {values}; available: {_listing(data[column])}",
                key=column,
            )
        data = data[data[column].isin(wanted)]
        narrowed += f"{' and' if narrowed else ' with the'} {column} {', '.join(map(str, wanted))}"
    return data


def headline_blocks(depths: Iterable[int]) -> int:
    """Return three, as in the paper, or the largest of these numbers of blocks (at least one) if none is three."""
    present = set(depths)
    return HEADLINE_BLOCKS if HEADLINE_BLOCKS in present else int(max(present, key=whole_last))


def shared_blocks(data: pd.DataFrame, sources: Iterable[str]) -> set[int]:
    """Return the numbers of blocks at which all of these sources, at least one, have trials."""
    return set.intersection(*(set(data.loc[data["source"] == source, "blocks"]) for source in sources))


def whole_last(value: Any) -> tuple[bool, Any]:
    """Return the key by which numbers of blocks or images are sorted: all of them (-1) are more than any number."""
    return value == ALL, value


def epoch_of(given: object) -> Epoch:
    """Return an epoch that is given as a number or text.

    Raises:
        InvalidRequest: when it is neither a number of at least 1 nor one of the words of ``Epoch``.
    """
    epoch = whole(given)
    if epoch in ("last", "all") or (isinstance(epoch, int) and epoch >= 1):
        found: Epoch = epoch
        return found
    raise InvalidRequest(
        Code.WRONG_VALUE,
        f"expected an epoch: a number from 1, 'last' (each trial's own) or 'all'; got {given!r}",
        key="--epoch",
    )


def _listing(column: "pd.Series[Any]", most: int = 40) -> str:
    values = sorted(set(column), key=lambda value: (isinstance(value, str), value))
    shown = ", ".join(str(value) for value in values[:most])
    return shown + (f", ... ({len(values)} in all)" if len(values) > most else "")
