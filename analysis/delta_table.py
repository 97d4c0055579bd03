"""The deltas of a results root: how much better each source transfers than its baseline.

An interval covers the noise of subset and fine-tuning, given one checkpoint per arm and a fixed test set.
It does not say what another checkpoint, trained the same way from another seed, would do.
"""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.cells import Method, summarize
from analysis.comparisons import (
    Comparison,
    Declared,
    between_depths,
    comparisons,
    declared_in,
    of_study,
    sets,
)
from analysis.delta_schema import DELTAS, with_notes
from analysis.evaluations import open_results
from analysis.families import declared_cells
from analysis.frames import COLUMNS, Choice, Epoch, at_epoch, frame, where
from analysis.pairing import DEPTH, KEYS, Pairing, pair_all
from analysis.recipes import recipe_choices, recipe_words
from analysis.statistics.multiple import holm
from analysis.words import counted
from jobs.errors import Code, InvalidRequest
from jobs.results import Store, read_trials

_LOSSES = ("test_loss", "train_loss")
_CURVE = ("source", "baseline", "dataset", "blocks", DEPTH, "recipe", "numerics", "origin")


def deltas(
    root: str | Path,
    baseline: str | None = None,
    study: str | None = None,
    *,
    epoch: Epoch | None = None,
    source: Choice = None,
    dataset: Choice = None,
    blocks: Choice = None,
    images: Choice = None,
    origin: Choice = None,
    confidence: float = 0.95,
    method: Method = "paired-t",
) -> pa.Table:
    """One row a cell: source minus baseline, paired by seed, with intervals (columns of ``DELTAS``).

    A family of Holm's correction is all cells of the contrasts that a study declared under one name (or none), as far
    as the root has results for them, whatever is asked for here: narrowing changes no ``p_holm``. Where a cell is in
    the families of several studies it has the largest; ``study`` chooses one. Where no study declared a contrast, and
    for imported trials, the family is the cells asked for; imported cells of comparisons that only a named family has
    are one by that name. Simultaneous bands are over the sizes asked for.

    Args:
        baseline: a source; None: the baselines of the recorded contrasts, else the only source with
            constraint none.
        study: only the cells that this study plans, and its contrasts; None: all, and those of all recorded studies.
        epoch: which evaluation; ``last`` is each trial's own last epoch. None: that, and besides it the cells of
            the contrasts that were declared at a numbered epoch.
        source, dataset, blocks, images, origin: only these; None: all. ``blocks`` are the source's; the baseline of a
            declared comparison of two depths is of the other.
        confidence: of the intervals, between 0 and 1.
        method: ``paired-t``, or ``paper-compatible``: the seeded percentile bootstrap, kept for comparison.

    Raises:
        InvalidRequest: for an empty root, an unknown name, or when no baseline follows from the data.
        ResultsConflict: for two trials under one key, or one seed with two subsets.
    """
    store = open_results(root)
    evaluations = read_trials(store, "finetune", [*COLUMNS, *_LOSSES])
    whole = frame(evaluations)
    if whole.empty:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"{store.uri} holds no finished fine-tuning trial yet; `deltasweep launch` or `resume` makes some",
            file=store.uri,
        )
    contrasts = declared_in(store, study)
    asked = whole if study is None else of_study(whole, store, study)
    data = where(asked, dataset=dataset, blocks=blocks, images=images, origin=origin)
    of_all_depths = where(asked, dataset=dataset, images=images, origin=origin)
    shown = set(data["blocks"])
    deep = [one for one in between_depths(of_all_depths, baseline, contrasts) if one.depths and one.depths[0] in shown]
    chosen = [*comparisons(data, baseline, contrasts, required=not deep), *deep]
    if source is not None:
        chosen = _only_sources(data, chosen, source)
    cells, pairs = _deltas(data, chosen, contrasts, epoch, confidence, method, whole, of_all_depths)
    repeated = evaluations.num_rows - len(whole)
    notes = _notes(repeated, len(_diverged(evaluations) & _trials(pairs)))
    return with_notes(as_table(cells), [*notes, *_recipes(store, set(cells["recipe"]))])


def delta_cells(
    data: pd.DataFrame,
    chosen: list[Comparison],
    contrasts: Declared,
    epoch: Epoch | None = "last",
    confidence: float = 0.95,
    method: Method = "paired-t",
    whole: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The deltas of the chosen comparisons, as ``deltas``, with ``images_used``.

    ``family`` says, for the cells that are corrected together, which and how many they are; ``declared`` is true for
    those of a study's contrasts.

    Args:
        data: the evaluations asked for, of all depths that ``chosen`` compares.
        whole: all of the root, over which declared families reach; None: ``data``.
    """
    return _deltas(data, chosen, contrasts, epoch, confidence, method, data if whole is None else whole, data)[0]


def _deltas(
    data: pd.DataFrame,
    chosen: list[Comparison],
    contrasts: Declared,
    epoch: Epoch | None,
    confidence: float,
    method: Method,
    whole: pd.DataFrame,
    of_all_depths: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells, and the pairs they rest on."""
    if not 0 < confidence < 1:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"the confidence of an interval lies between 0 and 1, such as 0.95; it is {confidence}",
            key="confidence",
        )
    if method not in get_args(Method):
        raise InvalidRequest(
            Code.WRONG_VALUE, f"a method is one of {', '.join(get_args(Method))}; it is {method!r}", key="method"
        )
    if not chosen:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"a delta needs two sources; the results are of {', '.join(sorted(set(data['source']))) or 'none'} only",
            key="source",
        )
    family = declared_cells(whole, contrasts)
    at = "last" if epoch is None else epoch
    pairs, counts = pair_all(at_epoch(data, at), chosen, at_epoch(of_all_depths, at))
    curve = _CURVE if epoch in ("last", None) else (*_CURVE, "epoch")
    cells = summarize(pairs, counts, KEYS, curve, confidence, method)
    if epoch is None:
        more, counts = _at_numbered_epochs(data, chosen, family, of_all_depths)
        if not counts.empty:
            numbered = summarize(more, counts, KEYS, (*_CURVE, "epoch"), confidence, method)
            cells, pairs = pd.concat([cells, numbered], ignore_index=True), pd.concat([pairs, more])
    return _corrected(cells, family, contrasts), pairs


def _diverged(evaluations: pa.Table) -> set[str]:
    """The trials with a loss that is not finite; one that was not recorded says nothing."""
    wrong = [pc.fill_null(pc.invert(pc.is_finite(evaluations[name])), False) for name in _LOSSES]
    return set(evaluations["trial_id"].filter(pc.or_(*wrong)).to_pylist())


def _trials(pairs: pd.DataFrame) -> set[str]:
    return {*pairs["trial_id_left"], *pairs["trial_id_right"]}


def _notes(repeated: int, diverged: int) -> list[str]:
    said = []
    if repeated:
        what = "evaluation is" if repeated == 1 else "evaluations are"
        said.append(f"{repeated:,} {what} there again, of trials that differ in evaluate_every only: counted once")
    if diverged:
        verb = "is" if diverged == 1 else "are"
        said.append(f"{counted(diverged, 'trial')} with a loss that is not finite (diverged) {verb} among the pairs")
    return said


def _recipes(store: Store, shown: set[str]) -> list[str]:
    """What tells the recipes of the cells apart, where there are several."""
    if len(shown) < 2:
        return []
    known = recipe_choices(read_trials(store, "finetune", ["recipe", "recipe_json"], encoded=True))
    words = recipe_words({digest: choices for digest, choices in known.items() if digest in shown})
    return [f"recipe {digest}: {said}" for digest, said in words.items()]


def _at_numbered_epochs(
    data: pd.DataFrame, chosen: list[Comparison], family: pd.DataFrame, of_all_depths: pd.DataFrame
) -> Pairing:
    """The pairs and cells of declared families that are not at a last epoch."""
    rows, deep = (
        every[(every["epoch"] != every["epochs"]) & every["epoch"].isin(family["epoch"])]
        for every in (data, of_all_depths)
    )
    if rows.empty and deep.empty:
        return Pairing(rows, rows)
    found = pair_all(rows, chosen, deep)
    return Pairing(*(part.merge(family[list(KEYS)], on=list(KEYS), how="inner") for part in found))


def as_table(cells: pd.DataFrame) -> pa.Table:
    """The public columns, in the reading order of the design."""
    order = [
        "source",
        "baseline",
        "origin",
        "recipe",
        "dataset",
        "blocks",
        DEPTH,
        "images_used",
        "epoch",
        "epochs",
        "numerics",
    ]
    ordered = cells.sort_values(order, kind="stable")
    return pa.Table.from_pandas(ordered[DELTAS.names], schema=DELTAS, preserve_index=False)


def _corrected(cells: pd.DataFrame, family: pd.DataFrame, contrasts: Declared) -> pd.DataFrame:
    """Holm's correction within each family; ``method`` says which family a cell belongs to.

    Own cells outside of declared contrasts are exploration: they belong to no family and get no adjusted p. Imported
    cells, and own ones where no study declared a contrast, are a family of those asked for; imported cells of
    comparisons that only named families have, are one for each name.
    """
    cells = cells.merge(family, on=list(KEYS), how="left", validate="one_to_one")
    cells["declared"] = cells["family"].notna()
    imported = (cells["origin"] == "imported").to_numpy()
    tested = cells["p_value"].notna().to_numpy()
    named = _sets(cells, contrasts)
    asked = {
        **{("imported cell", name): imported & tested & (named == name) for name in sorted(set(named))},
        ("cell", ""): ~imported & tested & (not contrasts.families),
    }
    for (noun, name), members in asked.items():
        cells.loc[members, "p_holm"] = holm(cells.loc[members, "p_value"].to_numpy(dtype=np.float64))
        of = f" ({name})" if name else ""
        cells.loc[members, "family"] = f"{counted(int(members.sum()), noun)} asked for{of}"
    known = tested & cells["family"].notna().to_numpy()
    cells.loc[known, "method"] += "; Holm over " + cells.loc[known, "family"]
    return cells


def _sets(cells: pd.DataFrame, contrasts: Declared) -> NDArray[np.str_]:
    """For each cell the named family that alone compares its arms; empty for others."""
    known = sets(contrasts)
    columns = (cells[name] for name in ("source", "baseline", "blocks", DEPTH))
    return np.array(
        [
            known.get(Comparison(source, baseline, (depth, other) if other != depth else None), "")
            for source, baseline, depth, other in zip(*columns, strict=True)
        ],
        dtype=np.str_,
    )


def _only_sources(data: pd.DataFrame, chosen: list[Comparison], source: Choice) -> list[Comparison]:
    wanted = set(where(data, source=source)["source"])
    found = [one for one in chosen if one.source in wanted]
    if chosen and not found:
        compared = ", ".join(dict.fromkeys(f"{one.source} minus {one.baseline}" for one in chosen))
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"a source is compared with its baseline; no comparison is of {', '.join(sorted(wanted))}. There are: "
            f"{compared}. Name another source, or another baseline",
            key="source",
        )
    return found
