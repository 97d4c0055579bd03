"""Trials of one cell that were trained for different numbers of epochs, which are never averaged or paired."""

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

import pandas as pd

from analysis.words import depth_text

_SETTING = ("origin", "recipe", "numerics")
CELL = ("dataset", "blocks", "images", *_SETTING)
"""Trials of a source that agree in these columns share a point of a curve if they have one length (``epochs``)."""

PLANNED = ("source", "dataset", "blocks", "images", "recipe", "epochs")
"""The columns of trials that a study plans."""

Plan: TypeAlias = Callable[[], pd.DataFrame]
"""Returns the trials that studies plan: ``PLANNED``, unique, with ``launched``, higher for those launched later."""

_POINT = ["source", *CELL]
_TRIALS = [*_POINT, "epochs"]


def with_lengths(data: pd.DataFrame, plan: Plan | None = None) -> pd.DataFrame:
    """Add ``length``: words for what distinguishes trials in length, such as ``30 epochs``; and ``main``.

    It is empty for the trials of an origin, recipe and numerics of which no source has several lengths in a cell.
    Otherwise, trials of a source with one value of it have one length in each cell, so that a curve over sizes may be
    drawn of them. ``main`` tells the trials of the main length of a cell, which belong together although a schedule has
    several (``10 or 30 epochs``); all others are named by their own length.

    Only what is in ``data`` counts: after trials were selected, call this again.

    Args:
        data: evaluations, in which those of one trial are adjacent.
        plan: called only if there are several lengths; None: no study is known.
    """
    data = data.drop(columns=["length", "main"], errors="ignore")
    trials = data.loc[data["trial_id"] != data["trial_id"].shift(), _TRIALS]
    found = trials.groupby(_TRIALS, dropna=False).size().reset_index(name="trials")
    if not found.duplicated(_POINT).any():
        return data.assign(length="", main=True)
    found = _with_main(found, plan)
    parts = [_worded(part) for _, part in found.groupby(list(_SETTING), dropna=False)]
    return data.merge(pd.concat(parts)[[*_TRIALS, "length", "main"]], on=_TRIALS, how="left")


def _with_main(found: pd.DataFrame, plan: Plan | None) -> pd.DataFrame:
    """Add ``main``: whether the trials have the main length of their cell, of those that have trials there.

    It is the one that the study launched last plans, else that of most trials, of equally many the longest. Sources
    that share a length in a cell have one main length there, so that both arms of a comparison are named alike.
    """
    found = found.assign(alike=_alike(found), launched=-1)
    if plan is not None:
        planned = found[list(PLANNED)].merge(plan(), on=list(PLANNED), how="left")["launched"]
        found["launched"] = planned.fillna(-1).where(found["origin"] != "imported", -1)
    cell = [*CELL, "alike"]
    lengths = found.groupby([*cell, "epochs"], dropna=False, as_index=False).agg(
        launched=("launched", "max"), trials=("trials", "sum")
    )
    best = lengths.sort_values(["launched", "trials", "epochs"], kind="stable").drop_duplicates(cell, keep="last")
    main = best[[*cell, "epochs"]].assign(main=True)
    found = found.merge(main, on=[*cell, "epochs"], how="left")
    return found.assign(main=found["main"].notna())


def _alike(found: pd.DataFrame) -> "pd.Series[int]":
    """Return a number for each row: equal for the sources and lengths of a cell that shared lengths connect."""
    sources = [found[name] for name in _POINT]
    lengths = [found[name] for name in (*CELL, "epochs")]
    alike = found["epochs"]
    while True:
        joined = alike.groupby(sources, dropna=False).transform("min")
        joined = joined.groupby(lengths, dropna=False).transform("min")
        if joined.equals(alike):
            return alike
        alike = joined


def _worded(found: pd.DataFrame) -> pd.DataFrame:
    """Add the words for the trials of one origin, recipe and numerics."""
    if not found.duplicated(_POINT).any():
        return found.assign(length="")
    own = found["epochs"].map(lambda epochs: lengths_text([epochs]))
    return found.assign(length=own.mask(found["main"], lengths_text(found.loc[found["main"], "epochs"])))


def length_of(table: pd.DataFrame, data: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Add ``length`` and ``main`` to rows of cells, and further columns of the evaluations that depend on nothing else.

    They are those of the source's trials; in a cell without any, those of the baseline's.

    Args:
        table: rows with the columns ``CELL`` and ``epochs``, as far as they differ in ``data``, and the sources.
        data: the evaluations of these cells (``with_lengths``).
        names: the further columns.
    """
    added = ["length", "main", *names]
    table = table.drop(columns=added, errors="ignore").reset_index(drop=True)
    if not names and data["main"].all() and (data["length"] == "").all():
        return table.assign(length="", main=True)
    keys = [name for name in _TRIALS if name in table]
    known = data[[*keys, *added]].drop_duplicates()
    own = table[keys].merge(known, on=keys, how="left", validate="many_to_one")[added]
    if "baseline" in table:
        depth = "baseline_blocks" if "baseline_blocks" in table else "blocks"
        other = table.assign(source=table["baseline"], blocks=table[depth])[keys].merge(known, on=keys, how="left")
        own = own.where(own["length"].notna(), other[added])
    return table.assign(**{name: own[name] for name in added}).astype({"main": bool})


def apart(trials: pd.DataFrame, *arms: str) -> pd.DataFrame:
    """Return the arms and lengths of the cells whose arms have no length in common: they are not comparable.

    Args:
        trials: rows with ``length`` (``with_lengths``), by which each arm has one length in a cell.
        arms: the columns that distinguish arms, such as ``source``; those that agree in a cell are the others.
    """
    cell = [name for name in (*_POINT, "length") if name not in arms]
    known = trials[[*cell, *arms, "epochs"]].drop_duplicates()
    return known[known.groupby(cell, dropna=False)["epochs"].transform("nunique") > 1]


def apart_text(found: pd.DataFrame, arm: str) -> str:
    """Return the lengths of each arm in the rows of ``apart``, at least one: ``l2: 10 epochs; natural: 30 epochs``."""
    return "; ".join(f"{name}: {lengths_text(epochs)}" for name, epochs in found.groupby(arm)["epochs"])


def apart_remark(trials: pd.DataFrame, arm: Literal["source", "blocks"] = "source") -> str:
    """Return a remark on the cells whose arms have no length in common, without a full stop; empty if there are none.

    Args:
        trials: as in ``apart``.
    """
    found = apart(trials, arm)
    if found.empty:
        return ""
    words = apart_text(found.assign(blocks=found["blocks"].map(depth_text)), arm)
    noun = {"source": "sources", "blocks": "depths"}[arm]
    return f"{noun} without a common length in a cell are not comparable and never paired ({words})"


def lengths_text(lengths: Iterable[int]) -> str:
    """Return distinct lengths, at least one, in words: ``30 epochs``, ``10, 20 or 30 epochs``."""
    *most, last = map(str, sorted(set(lengths)))
    noun = "epoch" if last == "1" else "epochs"
    return f"{', '.join(most)} or {last} {noun}" if most else f"{last} {noun}"
