"""The families of Holm's correction that studies declared: their cells, over the whole results root."""

from itertools import groupby

import numpy as np
import pandas as pd

from analysis.cells import summarize
from analysis.comparisons import Declared, Family, Planned, compared
from analysis.pairing import DEPTH, KEYS, pair_all
from analysis.statistics.multiple import holm
from analysis.studies import CELL as PLANNED
from analysis.words import counted
from jobs.specs import Contrast


def declared_cells(data: pd.DataFrame, known: Declared) -> pd.DataFrame:
    """The cells of the declared families: ``KEYS``, ``p_holm``, and ``family`` in words.

    A cell in the families of several studies has the largest of its adjusted p-values, and that study's words. Of the
    families of one study the first that has the cell counts, its own before named ones: another set declared beside
    those before moves no p-value of theirs.

    Args:
        data: all evaluations of a root: a family does not shrink with the question.
    """
    own = data[data["origin"] != "imported"]
    studies = groupby(known.families, key=lambda family: family.study)
    made = [_of_study(own, list(families)) for _, families in studies]
    columns = [*KEYS, "p_holm", "family"]
    if not made:
        none = own.iloc[:0]
        empty = {"baseline": none["source"], DEPTH: none["blocks"], "p_holm": none["test_accuracy"]}
        return none.assign(**empty, family=none["source"])[columns]
    every = pd.concat(made, ignore_index=True)
    return every.sort_values("p_holm", ascending=False, kind="stable").drop_duplicates(list(KEYS))[columns]


def at_its_epoch(rows: pd.DataFrame, contrast: Contrast) -> pd.DataFrame:
    """The evaluations that a contrast is about."""
    epoch = rows["epochs"] if contrast.epoch == "last" else contrast.epoch
    depths = {*contrast.blocks, contrast.baseline_blocks}
    return rows[rows["blocks"].isin(depths) & (rows["epoch"] == epoch)]


def _of_study(own: pd.DataFrame, families: list[Family]) -> pd.DataFrame:
    return pd.concat([_cells(own, one) for one in families], ignore_index=True).drop_duplicates(list(KEYS))


def _cells(own: pd.DataFrame, family: Family) -> pd.DataFrame:
    found = [_tested(own, one) for one in family.planned]
    cells = pd.concat(found, ignore_index=True).drop_duplicates(list(KEYS), ignore_index=True)
    # what was run before numbers changed on purpose is a family of its own: the study planned its cells once
    parts = [_corrected(part, family.words) for _, part in cells.groupby("numerics", sort=True)]
    return pd.concat(parts or [_corrected(cells, family.words)], ignore_index=True)


def _corrected(cells: pd.DataFrame, whose: str) -> pd.DataFrame:
    size = counted(int(cells["p_value"].notna().sum()), "cell")
    p_holm = holm(cells["p_value"].to_numpy(dtype=np.float64))
    return cells.assign(p_holm=p_holm, family=f"{size} of the contrasts of {whose}")


def _tested(own: pd.DataFrame, one: Planned) -> pd.DataFrame:
    planned = pd.DataFrame(sorted(one.cells, key=str), columns=list(PLANNED))
    rows = at_its_epoch(own, one.contrast).merge(planned, on=list(PLANNED), how="inner")
    pairs, counts = pair_all(rows, compared(one.contrast))
    return summarize(pairs, counts, KEYS, KEYS, 0.95)[[*KEYS, "p_value"]]
