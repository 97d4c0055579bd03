"""Trials of one cell that were trained for different numbers of epochs, which are never averaged or paired."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import pandas as pd

CELL = ("dataset", "images", "origin", "recipe", "numerics")
"""Trials that agree in these columns are comparable if they have one length (``epochs``), too."""

PLANNED = ("dataset", "images", "recipe")
"""The columns of ``CELL`` that a study plans."""

Plan: TypeAlias = Callable[[], pd.DataFrame]
"""Returns the length that the newest study plans for each cell: one row per ``PLANNED``, with ``epochs``."""


def with_lengths(data: pd.DataFrame, plan: Plan | None = None) -> pd.DataFrame:
    """Add ``length``: words for what distinguishes trials of one cell in length, such as ``30 epochs``.

    It is empty for the trials of an origin, recipe and numerics of which no cell has several lengths. Otherwise, trials
    with one value of it have one length in each cell, so that a curve over sizes may be drawn of them. The main length
    of a cell is the one that the newest study plans; of a cell that no study plans, the one with most trials, of
    several the longest. The trials of main lengths belong together, although a schedule has several (``10 or 30
    epochs``); all others are named by their own length.

    Args:
        data: evaluations, in which those of one trial are adjacent.
        plan: called only if a cell has several lengths; None: no study is known.
    """
    data = data.drop(columns="length", errors="ignore")
    trials = data.loc[data["trial_id"] != data["trial_id"].shift(), [*CELL, "epochs"]]
    found = trials.groupby([*CELL, "epochs"], dropna=False).size().reset_index(name="trials")
    if not found.duplicated(list(CELL)).any():
        return data.assign(length="")
    main = found.sort_values(["trials", "epochs"], kind="stable").drop_duplicates(list(CELL), keep="last")
    found = found.merge(main[[*CELL, "epochs"]].rename(columns={"epochs": "main"}), on=list(CELL), how="left")
    if plan is not None:
        planned = plan().rename(columns={"epochs": "planned"})
        found = found.merge(planned, on=list(PLANNED), how="left")
        known = found["planned"].notna() & (found["origin"] != "imported")
        found["main"] = found["planned"].where(known, found["main"]).astype("int64")
    parts = [_worded(part) for _, part in found.groupby(list(CELL[2:]), dropna=False)]
    words = pd.concat(parts)[[*CELL, "epochs", "length"]]
    return data.merge(words, on=[*CELL, "epochs"], how="left")


def _worded(found: pd.DataFrame) -> pd.DataFrame:
    """Add the words for the cells of one origin, recipe and numerics."""
    if not found.duplicated(list(CELL)).any():
        return found.assign(length="")
    main = found["epochs"] == found["main"]
    own = found["epochs"].map(lambda epochs: lengths_text([epochs]))
    return found.assign(length=own.mask(main, lengths_text(found.loc[main, "epochs"])))


def length_of(table: pd.DataFrame, data: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Add ``length`` to rows of cells, and further columns of the evaluations that depend on nothing else.

    Args:
        table: rows with the columns ``CELL`` and ``epochs``.
        data: the evaluations of these cells (``with_lengths``).
        names: the further columns.
    """
    keys = [*CELL, "epochs"]
    return table.merge(data[[*keys, "length", *names]].drop_duplicates(), on=keys, how="left", validate="many_to_one")


def lengths_text(lengths: Iterable[int]) -> str:
    """Return distinct lengths in words: ``30 epochs``, ``10, 20 or 30 epochs``."""
    *most, last = map(str, sorted(set(lengths)))
    noun = "epoch" if last == "1" else "epochs"
    return f"{', '.join(most)} or {last} {noun}" if most else f"{last} {noun}"
