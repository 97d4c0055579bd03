"""The families that studies declared for Holm's correction, with their cells over the whole results root."""

from collections.abc import Collection
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.paired.cells import summarize
from analysis.paired.contrasts import Comparison, Declared, Family, compared
from analysis.paired.pairing import DEPTH, KEYS, pair_all
from analysis.paired.studies import CELL as PLANNED
from analysis.statistics.holm import holm
from analysis.words import counted
from jobs.specs.contrast import EvaluatedEpoch


def declared_cells(data: pd.DataFrame, known: Declared) -> pd.DataFrame:
    """Return the cells of the declared families: ``KEYS``, ``p_holm``, and a description in ``family``.

    A cell in the families of several studies gets its largest adjusted p-value, with the description of that study.
    Within one study, the first family that contains the cell counts, its unnamed family before named ones: declaring
    another family does not change the p-values of earlier ones.

    Args:
        data: all evaluations of a root, so that a family does not shrink with the selection.
    """
    own = data[data["origin"] != "imported"]
    studies = groupby(known.families, key=lambda family: family.study)
    of_studies = [_of_study(own, list(families)) for _, families in studies]
    columns = [*KEYS, "p_holm", "family"]
    if not of_studies:
        none = own.iloc[:0]
        empty = {"baseline": none["source"], DEPTH: none["blocks"], "p_holm": none["test_accuracy"]}
        return none.assign(**empty, family=none["source"])[columns]
    every = pd.concat(of_studies, ignore_index=True)
    return every.sort_values("p_holm", ascending=False, kind="stable").drop_duplicates(list(KEYS))[columns]


def of_declared(
    rows: pd.DataFrame, planned: frozenset[tuple[object, ...]], blocks: Collection[int | None], epoch: EvaluatedEpoch
) -> pd.DataFrame:
    """Return the evaluations in the cells of a declaration, at its blocks and epoch.

    Args:
        planned: values of ``analysis.paired.studies.CELL``.
    """
    cells = pd.DataFrame(sorted(planned, key=str), columns=list(PLANNED))
    at = rows["epochs"] if epoch == "last" else epoch
    return rows[rows["blocks"].isin(set(blocks)) & (rows["epoch"] == at)].merge(cells, on=list(PLANNED), how="inner")


def _of_study(own: pd.DataFrame, families: list[Family]) -> pd.DataFrame:
    return pd.concat([_cells(own, family) for family in families], ignore_index=True).drop_duplicates(list(KEYS))


def _cells(own: pd.DataFrame, family: Family) -> pd.DataFrame:
    tested = [_tested(own, declaration, arms) for declaration, arms in _declarations(family).items()]
    cells = pd.concat(tested, ignore_index=True).drop_duplicates(list(KEYS), ignore_index=True)
    # trials from before a change of numerics are a separate family: the study planned each of its cells once
    parts = [_corrected(part, family.words) for _, part in cells.groupby("numerics", sort=True)]
    return pd.concat(parts or [_corrected(cells, family.words)], ignore_index=True)


def _corrected(cells: pd.DataFrame, whose: str) -> pd.DataFrame:
    size = counted(int(cells["p_value"].notna().sum()), "cell")
    p_holm = holm(cells["p_value"].to_numpy(dtype=np.float64))
    return cells.assign(p_holm=p_holm, family=f"{size} of the contrasts of {whose}")


class _Declaration(NamedTuple):
    """What contrasts of a family share if their comparisons can be paired at once."""

    cells: frozenset[tuple[object, ...]]
    blocks: frozenset[int | None]
    epoch: EvaluatedEpoch


def _declarations(family: Family) -> dict[_Declaration, list[Comparison]]:
    found: dict[_Declaration, list[Comparison]] = {}
    for contrast, cells in family.planned:
        blocks = frozenset({*contrast.blocks, contrast.baseline_blocks})
        found.setdefault(_Declaration(cells, blocks, contrast.epoch), []).extend(compared(contrast))
    return found


def _tested(own: pd.DataFrame, declaration: _Declaration, arms: list[Comparison]) -> pd.DataFrame:
    pairs, counts = pair_all(of_declared(own, *declaration), dict.fromkeys(arms))
    return summarize(pairs, counts, KEYS, KEYS, 0.95)[[*KEYS, "p_value"]]
