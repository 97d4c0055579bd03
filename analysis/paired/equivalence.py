"""Whether a change of the recipe moves deltas: the answers to the equivalences that studies declared.

In each cell, the delta under one recipe minus that under the other, seed by seed, has a 95 % paired t interval. The
change is shown to be within the margin if the whole interval is.
"""

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.evaluations.frames import COLUMNS, frame
from analysis.evaluations.reading import open_results
from analysis.evaluations.recipes import recipe_words
from analysis.paired.cells import method_words
from analysis.paired.changes import changes, mean_changes
from analysis.paired.contrasts import Comparison, PlannedEquivalence, declared_equivalences, unfinished
from analysis.paired.families import of_declared
from analysis.paired.pairing import CELL, pair, pair_all
from analysis.paired.schema import EQUIVALENCES, with_notes
from analysis.paired.studies import CELL as PLANNED
from analysis.words import counted
from jobs.kind import GRID_KIND
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import Store, read_launches, read_trials, recorded_studies
from jobs.specs.base import ALL
from jobs.specs.equivalence import Equivalence
from jobs.specs.trial import recipe_digest

WITHIN, NOT_SHOWN = "within", "not shown"
"""The verdicts of a cell: the whole interval lies in the margin, or it does not (also if there is no interval)."""

NOTE = (
    "Change: the delta under one recipe minus that under the other, seed by seed, with its 95 % paired t interval. "
    "Within: the whole interval lies in the margin. Not shown: it does not, which alone is no evidence of a change. "
    "Excludes 0: of each interval alone, without correction for the number of cells."
)
"""What the columns and verdicts mean."""

_SIDES = "sides"
"""Column with the number of a pair of recipes that are compared."""
_DIGITS = 9
"""Decimals of a seed's change, so that rounding errors of its subtractions do not make equal changes vary."""
_MEASURED = ("seeds", "n_changes", "change", "change_low", "change_high")
_CELL = ("dataset", "blocks", "images", "epoch", "epochs", "numerics", _SIDES)


def equivalences(root: str | Path, study: str | None = None) -> pa.Table:
    """Return one row per declared equivalence and cell (columns of ``EQUIVALENCES``); none if none was declared.

    A cell is one (dataset, blocks, images) of the declaring study, and one pair of recipes that differ only in the
    declared choices. Each planned cell has a row, with or without results: an equivalence is shown only if all its
    cells are ``within``. Trials of several numerics are separate answers, each with a row per cell. Imported trials
    do not take part. All seeds of the root count, as in ``deltas``.

    Args:
        study: only what this study declared; None: all recorded studies. Of a study in several versions, the most
            recently launched one counts.

    Raises:
        InvalidRequest: when the root does not exist, or for a study that is not recorded in it.
        ResultsConflict: as ``deltas``.
    """
    store = open_results(root)
    declared = declared_equivalences(recorded_studies(store), read_launches(store), study)
    if not declared:
        return equivalence_table(None, declared)
    evaluations = read_trials(store, GRID_KIND, [*COLUMNS])
    return with_unfinished(
        equivalence_table(frame(evaluations), declared), declared, {*evaluations["trial_id"].to_pylist()}, store
    )


def with_unfinished(
    table: pa.Table, declared: Sequence[PlannedEquivalence], finished: Set[str], store: Store
) -> pa.Table:
    """Return the table with a note for each declaring study that has trials to come: its answers are not final.

    Args:
        finished: the ids of the root's finished trials.
    """
    studies = sorted({planned.study for planned in declared})
    return with_notes(table, [note for study in studies for note in unfinished(finished, store, study)])


def equivalence_table(data: pd.DataFrame | None, declared: Sequence[PlannedEquivalence]) -> pa.Table:
    """Return the rows of the given equivalences, as ``equivalences`` does.

    Args:
        data: all evaluations of the root; None is enough if nothing is declared.
    """
    if not declared:
        return EQUIVALENCES.empty_table()
    assert data is not None
    own = data[data["origin"] != "imported"]
    cells = pd.concat([_cells(own, planned) for planned in declared], ignore_index=True)
    identity = ["study", "equivalence", "recipe", "against", *(name for name in _CELL if name != _SIDES)]
    cells = cells.drop_duplicates(identity)  # of several versions of a study, of which none was launched
    return pa.Table.from_pandas(cells[EQUIVALENCES.names], schema=EQUIVALENCES, preserve_index=False)


class Answer(NamedTuple):
    """The cells of one equivalence and numerics, and what follows from all of them."""

    study: str
    equivalence: str
    cells: list[dict[str, Any]]
    """By column; in addition ``excludes``: ``yes``, ``no``, or nothing without an interval."""
    conclusion: str

    @property
    def methods(self) -> list[str]:
        """How the intervals were computed, with their cautions, and the number of cells of each."""
        methods = [cell["method"] for cell in self.cells]
        return [f"{counted(methods.count(method), 'row')}: {method}." for method in sorted(set(methods))]


def answers(table: pa.Table) -> Iterator[Answer]:
    """Group the rows of ``equivalences`` by what was declared."""
    rows = table.to_pandas()
    rows["excludes"] = [{True: "yes", False: "no"}.get(value, "") for value in table["excludes_zero"].to_pylist()]
    for (study, equivalence), declared in rows.groupby(["study", "equivalence"], sort=False):
        for numerics, cells in declared.groupby("numerics", sort=False):
            of = f", numerics {numerics}" if declared["numerics"].nunique() > 1 else ""
            yield Answer(str(study), f"{equivalence}{of}", cells.to_dict("records"), _conclusion(cells))


def _conclusion(cells: pd.DataFrame) -> str:
    margin, within = _points(cells["within"].iloc[0]), int((cells["verdict"] == WITHIN).sum())
    if within == len(cells):
        return f"Shown: the change is within {margin} in every cell ({within} of {len(cells)})."
    return f"Not shown: the change is within {margin} in {within} of {len(cells)} cells; every cell must be."


def _cells(own: pd.DataFrame, planned: PlannedEquivalence) -> pd.DataFrame:
    """Return the rows of one equivalence."""
    equivalence = planned.equivalence
    sides = _sides(planned)
    of_recipes = pd.concat(
        [
            pd.DataFrame({"recipe": sides[side], _SIDES: sides[_SIDES], "reference": side == "against"})
            for side in ("recipe", "against")
        ]
    )
    rows = of_declared(own, planned.cells, equivalence.blocks, equivalence.epoch)
    rows = rows[rows["source"].isin([equivalence.source, equivalence.baseline])].merge(of_recipes, on="recipe")
    cells = _planned_cells(planned, sorted(set(rows["numerics"])) or [FinetuneSpec.numerics_version]).merge(sides)
    if rows.empty:
        cells = cells.reindex(columns=[*cells, *_MEASURED])
    else:
        cells = cells.merge(_measured(rows, equivalence), on=list(_CELL), how="left")
    n = cells["n_changes"].fillna(0).astype("int64")
    low, high = cells["change_low"], cells["change_high"]
    inside = (low >= -equivalence.within) & (high <= equivalence.within)
    method = [method_words(count) for count in n]
    return cells.assign(
        study=planned.study,
        equivalence=in_words(equivalence),
        source=equivalence.source,
        baseline=equivalence.baseline,
        n_pairs=n,
        n_unpaired=cells["seeds"].fillna(0).astype("int64") - n,
        mean_change=cells["change"],
        ci_low=low,
        ci_high=high,
        within=equivalence.within,
        excludes_zero=((low > 0) | (high < 0)).astype("boolean").where(low.notna()),
        verdict=np.where(inside, WITHIN, NOT_SHOWN),
        method=np.where(high - low < 10**-_DIGITS, [f"{words}; all changes are equal" for words in method], method),
    )


def _measured(rows: pd.DataFrame, equivalence: Equivalence) -> pd.DataFrame:
    """Return the cells with results: the number of ``seeds`` in any of the four arms, and the mean change.

    Args:
        rows: evaluations of both sources under both recipes, with the number of their ``sides``; at least one.
    """
    _require_same_subsets(rows)
    of_recipes = rows[["recipe", _SIDES, "reference"]].drop_duplicates()
    pairs, _ = pair_all(rows, [Comparison(equivalence.source, equivalence.baseline)])
    pairs = pairs.merge(of_recipes, on="recipe")
    seeds = rows.groupby(list(_CELL))["seed"].nunique().reset_index(name="seeds")
    changed = changes(pairs, pairs["reference"], _CELL)
    changed["change"] = changed["change"].round(_DIGITS)
    return seeds.merge(mean_changes(changed, _CELL), on=list(_CELL), how="left")


def _sides(planned: PlannedEquivalence) -> pd.DataFrame:
    """Return the pairs of recipes: their number, both digests, and the other choices in which they differ."""
    pairs = [
        (one, recipe_digest(one), recipe_digest(other))
        for one, other in planned.equivalence.sides(planned.recipes)
        if one is not None and other is not None
    ]
    others = recipe_words({digest: dict(planned.equivalence.others(one)) for one, digest, _ in pairs})
    rows = [(number, one, other, others.get(one, "")) for number, (_, one, other) in enumerate(pairs)]
    return pd.DataFrame(rows, columns=[_SIDES, "recipe", "against", "other_choices"])


def _planned_cells(planned: PlannedEquivalence, numerics: Sequence[int]) -> pd.DataFrame:
    """Return the planned cells of all recipes, at all depths and in all numerics, in the order of reading."""
    cells = pd.DataFrame(sorted(planned.cells, key=str), columns=list(PLANNED))
    cells = cells.merge(pd.DataFrame({"blocks": planned.equivalence.blocks}), how="cross")
    cells = cells.merge(pd.DataFrame({"numerics": numerics}), how="cross")
    epoch = planned.equivalence.epoch
    cells["epoch"] = cells["epochs"] if epoch == "last" else epoch
    last = cells["images"] == ALL
    return cells.assign(_last=last).sort_values(["numerics", "dataset", "blocks", "_last", "images"], ignore_index=True)


def _require_same_subsets(rows: pd.DataFrame) -> None:
    """Require that trials of a source and seed used the same subset under both recipes.

    Raises:
        ResultsConflict: if they did not.
    """
    keys = ("source", *(name for name in CELL if name != "recipe"), _SIDES)
    pair(rows[~rows["reference"]], rows[rows["reference"]], keys)


def in_words(equivalence: Equivalence) -> str:
    """Describe what was declared, in one line."""
    blocks = ", ".join("all" if depth == ALL else str(depth) for depth in equivalence.blocks)
    when = "last epoch" if equivalence.epoch == "last" else f"epoch {equivalence.epoch}"
    choices = ", ".join(
        f"{key} {value}" + (f" against {equivalence.against[key]}" if value != equivalence.against[key] else "")
        for key, value in equivalence.recipe.items()
    )
    return (
        f"{equivalence.source} minus {equivalence.baseline}, blocks {blocks}, {when}: {choices}, within "
        f"{_points(equivalence.within)}"
    )


def _points(margin: float) -> str:
    return f"{margin:g} percentage point{'' if margin == 1 else 's'}"
