"""What figures rely on besides columns: a stranger's file has the right ones, and may have anything in them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL.Image import Image

from jobs.data.raw import Part
from jobs.errors import Code, DamagedFile

_TUNED = ("finetuned", "blocks", "images", "finetuned_seed", "finetuned_epochs", "finetuned_recipe")
"""What every row on a fine-tuned network tells of it."""

Row = Mapping[Any, Any]
"""Of a trial: column -> value."""


def damaged(row: Row, column: str, rule: str, found: object) -> DamagedFile:
    """The error for a row that breaks a rule of a column."""
    return DamagedFile(
        Code.DAMAGED_RESULT,
        f"{rule}; in the trial {row.get('trial_id')} it is {found}. "
        "Move its file away and resume: the trial runs again",
        key=column,
    )


def require_tuned(rows: pd.DataFrame, *more: str) -> None:
    """Rows on fine-tuned networks tell which.

    Args:
        more: columns that tell it besides those of all kinds.

    Raises:
        DamagedFile: naming the first column that does not.
    """
    for name in (*_TUNED, *more):
        unknown = rows[rows[name].isna()]
        if not unknown.empty:
            rule = f"a result on a fine-tuned network has {name} in every row"
            raise damaged(unknown.iloc[0].to_dict(), name, rule, "null")


def require_known(rows: pd.DataFrame, column: str, known: Mapping[str, str]) -> None:
    """A word is one that has a meaning.

    Raises:
        DamagedFile: naming the first that has none.
    """
    other = rows[~rows[column].isin(list(known))]
    if not other.empty:
        first = other.iloc[0].to_dict()
        raise damaged(first, column, f"{column} is one of {', '.join(known)}", repr(first[column]))


def numbers(row: Row, column: str) -> NDArray[np.float64]:
    """A list of a row, T.

    Raises:
        DamagedFile: when there is none, or no number in it, or one that is null or not finite.
    """
    held = row[column]
    found = np.asarray([] if held is None else held, dtype=np.float64)  # null in a list is NaN
    if not found.size:
        said = "null" if held is None else "empty"
        raise damaged(row, column, f"{column} is a list of at least one number", said)
    if not np.isfinite(found).all():
        raise damaged(row, column, f"every number of {column} is finite", "null, NaN or infinite in some place")
    return found


def matrix(rows: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """The lists of a trial's rows, one below the other: M x T.

    Raises:
        DamagedFile: as ``numbers``, and when their lengths differ.
    """
    all_of_them = rows.to_dict("records")
    found = [numbers(row, column) for row in all_of_them]
    lengths = sorted({len(one) for one in found})
    if len(lengths) > 1:
        rule = f"{column} is of one length in all rows of a trial"
        raise damaged(all_of_them[0], column, rule, f"of {lengths} numbers")
    return np.stack(found)


def image_of(part: Part, index: float, row: Row, column: str) -> Image:
    """An image of the dataset at hand that a row names.

    Raises:
        DamagedFile: when the dataset has none of that index, or the image cannot be read.
    """
    count = len(part.labels_N)
    if not 0 <= index < count:
        rule = f"{column} is an index of the dataset's {count:,} images, from 0"
        raise damaged(row, column, rule, f"{index:.0f}")
    return part.image(int(index))
