"""Evaluations as a pandas frame: which rows a question is about."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import pandas as pd
import pyarrow as pa

from jobs.errors import Code, InvalidRequest

Epoch: TypeAlias = int | Literal["last", "all"]
"""Which evaluations: after one epoch (from 1), after the last of each trial, or all."""

Choice: TypeAlias = str | int | Sequence[str | int] | None
"""A value, several values, or None for all."""

UNRECORDED = -1
"""The seed of an imported trial whose seed nobody wrote down: it pairs with nothing."""

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


def frame(evaluations: pa.Table) -> pd.DataFrame:
    """The columns that deltas and curves need, in an order that does not depend on that of files or rows.

    Unknown numerics (imported trials) become 0, so that they are an ordinary key. Trials that differ in
    ``evaluate_every`` only are one training, looked at more or less often: where they agree in accuracy and subset
    digest, as they must, an evaluation stays once. ``evaluations.num_rows`` less the length of the frame are left out.
    """
    data: pd.DataFrame = evaluations.select(list(COLUMNS)).to_pandas()
    data["numerics"] = data["numerics"].fillna(0).astype("int64")
    data = data.sort_values(["trial_id", "epoch"], kind="stable", ignore_index=True)
    again = data.duplicated([name for name in COLUMNS if name != "trial_id"]) & (data["seed"] != UNRECORDED)
    return data[~again].reset_index(drop=True)


def at_epoch(data: pd.DataFrame, epoch: Epoch) -> pd.DataFrame:
    """The evaluations after ``epoch``; ``last`` is each trial's own last, which is always evaluated.

    Raises:
        InvalidRequest: when nothing was evaluated after that epoch.
    """
    if epoch == "all":
        return data
    chosen = data[data["epoch"] == (data["epochs"] if epoch == "last" else epoch)]
    if chosen.empty and not data.empty:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"nothing was evaluated after epoch {epoch}; evaluated epochs: {_listing(data['epoch'])}. "
            "Name one of these, or 'last'",
            key="--epoch",
        )
    return chosen


def where(data: pd.DataFrame, **choices: Choice) -> pd.DataFrame:
    """The rows whose columns have the chosen values; None chooses all.

    Raises:
        InvalidRequest: for a value that no row has, with those that there are.
    """
    narrowed = ""
    for column, choice in choices.items():
        if choice is None:
            continue
        wanted = [choice] if isinstance(choice, str | int) else list(choice)
        unknown = [value for value in wanted if value not in set(data[column])]
        if unknown:
            values = ", ".join(map(str, unknown))
            raise InvalidRequest(
                Code.UNKNOWN_NAME,
                f"no evaluation{narrowed} has the {column} {values}; there are: {_listing(data[column])}",
                key=column,
            )
        data = data[data[column].isin(wanted)]
        narrowed += f"{' and' if narrowed else ' with the'} {column} {', '.join(map(str, wanted))}"
    return data


def epoch_of(text: str) -> Epoch:
    """What a person wrote as an epoch.

    Raises:
        InvalidRequest: when it is neither a number from 1 nor a word of ``Epoch``.
    """
    words: dict[str, Epoch] = {"last": "last", "all": "all"}
    if text in words:
        return words[text]
    if not text.isdecimal() or int(text) < 1:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"an epoch is a number from 1, 'last' (each trial's own) or 'all'; it is {text!r}",
            key="--epoch",
        )
    return int(text)


def main_lengths(table: pd.DataFrame, cell: Sequence[str], count: str) -> pd.DataFrame:
    """The rows of the length (``epochs``) that most trials of their cell have; of equally frequent ones, the longest.

    A curve has one point a size: a cell that was run again with another length cannot show both.

    Args:
        table: any rows with the columns ``cell``, ``epochs`` and ``count``.
        count: the column that says how many trials a row stands for. Of several rows, such as one an epoch, the
            largest counts: trials are no more frequent for being evaluated more often.
    """
    if not table[[*cell, "epochs"]].drop_duplicates().duplicated(list(cell)).any():  # by far the most often
        return table.reset_index(drop=True)
    sizes = table.groupby([*cell, "epochs"])[[count]].max().reset_index()
    most = sizes.sort_values([count, "epochs"], kind="stable").drop_duplicates(list(cell), keep="last")
    return table.merge(most[[*cell, "epochs"]], on=[*cell, "epochs"], how="inner")


def _listing(column: "pd.Series[Any]", most: int = 40) -> str:
    values = sorted(set(column), key=lambda value: (isinstance(value, str), value))
    shown = ", ".join(str(value) for value in values[:most])
    return shown + (f", ... ({len(values)} in all)" if len(values) > most else "")
