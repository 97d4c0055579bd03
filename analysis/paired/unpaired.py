"""What enters no delta, and why: trials without a partner, and cells without a pair."""

from collections import Counter

import pandas as pd

from analysis.paired.pairing import DEPTH
from analysis.words import counted

NO_TRIALS = "trials of one arm are missing"
NO_SEED = "no seed is recorded in both arms"

_PLACE = ["source", "dataset", "blocks", "images", "origin"]
_DIFFERENCES = {"epochs": "epochs", "recipe": "recipe", "numerics": "numerics", "epoch": "evaluated epochs"}
"""Columns in which the trials of two arms may differ at one place, with their words."""


def why_no_pair(cells: pd.DataFrame, data: pd.DataFrame) -> list[str]:
    """Return why each cell has no pair, in words; an empty text for cells with pairs.

    Args:
        cells: cells of deltas (``pairing.KEYS`` and ``n_pairs``).
        data: the evaluations of both arms, also of other lengths and recipes.
    """
    lone = cells.reset_index(drop=True)
    lone = lone[lone["n_pairs"] == 0]
    why = [""] * len(cells)
    if lone.empty:
        return why
    left = _differences(lone, data)
    right = _differences(lone.assign(source=lone["baseline"], blocks=lone[DEPTH]), data)
    for cell in lone.index.tolist():
        if cell not in left or cell not in right:
            why[cell] = NO_TRIALS
        else:  # a cell has trials of at least one arm
            differences = left[cell] or right[cell]
            why[cell] = f"the trials of the two arms differ in {differences}" if differences else NO_SEED
    return why


def _differences(arm: pd.DataFrame, data: pd.DataFrame) -> dict[int, str]:
    """Return in what the trials of an arm differ from their cells, as little as possible; empty if in nothing.

    Cells at whose place the arm has no trial are left out.

    Args:
        arm: cells, with the source and the depth of the arm; their index names them.
    """
    known = data.merge(arm[_PLACE].drop_duplicates(), on=_PLACE)[[*_PLACE, *_DIFFERENCES]].drop_duplicates()
    both = arm.rename_axis("cell").reset_index().merge(known, on=_PLACE, suffixes=("", "_there"))
    differ = pd.DataFrame({name: both[name] != both[f"{name}_there"] for name in _DIFFERENCES})
    differ["epoch"] &= ~differ["epochs"]  # another length has another last epoch
    found: dict[int, list[str]] = {}
    for cell, apart in zip(both["cell"].tolist(), differ.itertuples(index=False), strict=True):
        words = [name for name, one in zip(_DIFFERENCES.values(), apart, strict=True) if one]
        if cell not in found or len(words) < len(found[cell]):
            found[cell] = words
    return {cell: " and ".join(words) for cell, words in found.items()}


def without_pair(why: "pd.Series[str]") -> list[str]:
    """Return a clause for each reason of ``why_no_pair``: ``2 cells have no pair, since ...``."""
    counts = Counter(reason for reason in why if reason)
    return [
        f"{counted(number, 'cell')} {'has' if number == 1 else 'have'} no pair, since {reason}"
        for reason, number in sorted(counts.items())
    ]


def without_partner(cells: int) -> str:
    """Return a clause on the cells with pairs that also have trials without a partner.

    It counts cells, not trials: a trial may be in several, and have a partner in some of them.
    """
    return f"in {counted(cells, 'cell')}, trials without a partner in the other arm do not enter the delta"
