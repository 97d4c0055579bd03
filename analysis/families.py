"""The families of Holm's correction that studies declared: their cells, over the whole results root."""

import numpy as np
import pandas as pd

from analysis.cells import summarize
from analysis.comparisons import Comparison, Declared, Family, Version
from analysis.pairing import KEYS, pair_all
from analysis.statistics.multiple import holm
from analysis.studies import CELL as PLANNED
from analysis.words import counted
from jobs.specs import Contrast


def declared_cells(data: pd.DataFrame, known: Declared) -> pd.DataFrame:
    """The cells of the declared families: ``KEYS``, ``p_holm``, and ``family`` in words.

    A cell in the families of several studies has the largest of its adjusted p-values, and that study's words.

    Args:
        data: all evaluations of a root: a family does not shrink with the question.
    """
    own = data[data["origin"] != "imported"]
    made = [_cells(own, one) for one in known.families]
    columns = [*KEYS, "p_holm", "family"]
    if not made:
        none = own.iloc[:0]
        return none.assign(baseline=none["source"], p_holm=none["test_accuracy"], family=none["source"])[columns]
    every = pd.concat(made, ignore_index=True)
    return every.sort_values("p_holm", ascending=False, kind="stable").drop_duplicates(list(KEYS))[columns]


def at_its_epoch(rows: pd.DataFrame, contrast: Contrast) -> pd.DataFrame:
    """The evaluations that a contrast is about."""
    epoch = rows["epochs"] if contrast.epoch == "last" else contrast.epoch
    return rows[rows["blocks"].isin(contrast.blocks) & (rows["epoch"] == epoch)]


def _cells(own: pd.DataFrame, family: Family) -> pd.DataFrame:
    found = [_tested(own, version, contrast) for version in family.versions for contrast in version.contrasts]
    cells = pd.concat(found, ignore_index=True).drop_duplicates(list(KEYS), ignore_index=True)
    # what was run before numbers changed on purpose is a family of its own: the study planned its cells once
    parts = [_corrected(part, family.study) for _, part in cells.groupby("numerics", sort=True)]
    return pd.concat(parts or [_corrected(cells, family.study)], ignore_index=True)


def _corrected(cells: pd.DataFrame, study: str) -> pd.DataFrame:
    size = counted(int(cells["p_value"].notna().sum()), "cell")
    p_holm = holm(cells["p_value"].to_numpy(dtype=np.float64))
    return cells.assign(p_holm=p_holm, family=f"{size} of the contrasts of {study}")


def _tested(own: pd.DataFrame, version: Version, contrast: Contrast) -> pd.DataFrame:
    planned = pd.DataFrame(sorted(version.cells, key=str), columns=list(PLANNED))
    rows = at_its_epoch(own, contrast).merge(planned, on=list(PLANNED), how="inner")
    pairs, counts = pair_all(rows, [Comparison(contrast.source, contrast.baseline)])
    return summarize(pairs, counts, KEYS, KEYS, 0.95)[[*KEYS, "p_value"]]
