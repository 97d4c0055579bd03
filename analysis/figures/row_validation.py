"""Checks of the values that figures rely on: an untrusted file may have valid columns with arbitrary contents."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL.Image import Image

from jobs.data.raw import LabelledImages
from jobs.errors import Code, DamagedFile

_TUNED = ("finetuned", "blocks", "images", "finetuned_seed", "finetuned_epochs", "finetuned_recipe")
"""Columns that every row on a fine-tuned network must have."""

RowValues = Mapping[Any, Any]
"""A row of a trial: column -> value."""


def damaged(row: RowValues, column: str, rule: str, found: object) -> DamagedFile:
    """Return the error for a row that violates a rule of a column."""
    return DamagedFile(
        Code.DAMAGED_RESULT,
        f"{rule}; in the trial {row.get('trial_id')} it is {found}. "
        "Fix: move its file away and resume; the trial runs again",
        key=column,
    )


def require_tuned(rows: pd.DataFrame, *more: str) -> None:
    """Check that rows on fine-tuned networks identify the network.

    Args:
        more: further columns that identify it.

    Raises:
        DamagedFile: for the first column with a null.
    """
    for name in (*_TUNED, *more):
        unknown = rows[rows[name].isna()]
        if not unknown.empty:
            rule = f"a result on a fine-tuned network must have {name} in every row"
            raise damaged(unknown.iloc[0].to_dict(), name, rule, "null")


def require_known(rows: pd.DataFrame, column: str, known: Mapping[str, str]) -> None:
    """Check that a column has only known words.

    Raises:
        DamagedFile: for the first unknown one.
    """
    other = rows[~rows[column].isin(list(known))]
    if not other.empty:
        first = other.iloc[0].to_dict()
        raise damaged(first, column, f"{column} must be one of {', '.join(known)}", repr(first[column]))


def numbers(row: RowValues, column: str) -> NDArray[np.float64]:
    """Return the list in a column of a row, as an array of length T.

    Raises:
        DamagedFile: when it is null or empty, or contains a null or a number that is not finite.
    """
    held = row[column]
    values = np.asarray([] if held is None else held, dtype=np.float64)  # null in a list is NaN
    if not values.size:
        what = "null" if held is None else "empty"
        raise damaged(row, column, f"{column} must be a list of at least one number", what)
    if not np.isfinite(values).all():
        raise damaged(row, column, f"every number of {column} must be finite", "null, NaN or infinite at some position")
    return values


def matrix(rows: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Return the lists of a trial's rows, stacked to M x T.

    Raises:
        DamagedFile: as ``numbers``, and when their lengths differ.
    """
    all_of_them = rows.to_dict("records")
    lists = [numbers(row, column) for row in all_of_them]
    lengths = sorted({len(values) for values in lists})
    if len(lengths) > 1:
        rule = f"{column} must have the same length in all rows of a trial"
        raise damaged(all_of_them[0], column, rule, f"of {lengths} numbers")
    return np.stack(lists)


def image_of(part: LabelledImages, index: float, row: RowValues, column: str) -> Image:
    """Return the image of the given dataset to which a row refers.

    Raises:
        DamagedFile: when the dataset has no image of that index, or the image cannot be read.
    """
    count = len(part.labels_N)
    if not 0 <= index < count:
        rule = f"{column} must be an index of the dataset's {count:,} images, from 0"
        raise damaged(row, column, rule, f"{index:.0f}")
    return part.image(int(index))
