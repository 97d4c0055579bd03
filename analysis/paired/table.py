"""The deltas of a results root: how much better each source transfers than its baseline.

An interval covers the noise of the subset and of fine-tuning, given one checkpoint per arm and a fixed test set.
It says nothing about other checkpoints, trained in the same way with other seeds.
"""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from analysis.evaluations.frames import COLUMNS, Choice, Epoch, at_epoch, epoch_of, frame, where
from analysis.evaluations.lengths import length_of, with_lengths
from analysis.evaluations.reading import open_results, recipes_in_words
from analysis.paired.cells import DEFAULT_METHOD, Method, summarize
from analysis.paired.contrasts import (
    Comparison,
    Declared,
    between_depths,
    comparisons,
    declared_in,
    lengths_in,
    of_compared,
    of_study,
    sets,
    unfinished,
)
from analysis.paired.diverged import LOSSES, diverged_among
from analysis.paired.families import declared_cells
from analysis.paired.pairing import DEPTH, KEYS, Pairing, pair_all
from analysis.paired.schema import DELTAS, with_confidence, with_notes
from analysis.paired.unpaired import why_no_pair, without_pair
from analysis.statistics.grouped import CONFIDENCE
from analysis.statistics.holm import holm
from analysis.words import counted
from jobs.errors import Code, InvalidRequest
from jobs.kind import GRID_KIND
from jobs.results import read_trials

_CURVE = ("source", "baseline", "dataset", "blocks", DEPTH, "recipe", "numerics", "origin", "length")


def deltas(
    root: str | Path,
    baseline: str | None = None,
    study: str | None = None,
    *,
    epoch: Epoch | str | None = None,
    source: Choice = None,
    dataset: Choice = None,
    blocks: Choice = None,
    images: Choice = None,
    origin: Choice = None,
    confidence: float = 0.95,
    method: Method = DEFAULT_METHOD,
) -> pa.Table:
    """Return one row per cell: source minus baseline, paired by seed, with intervals (columns of ``DELTAS``).

    A family of Holm's correction consists of all cells of the contrasts that a study declared under one name (or none)
    for which the root has results, whatever is selected here: narrowing the selection changes no ``p_holm``. A cell in
    the families of several studies has the largest p-value; ``study`` selects one. Where no study declared a contrast,
    and for imported trials, the family is the requested cells; imported cells of comparisons that are only in a named
    family form one family per name. Simultaneous bands cover the requested sizes.

    Args:
        baseline: a source; None: the baselines of the recorded contrasts, else the only source with
            constraint none.
        study: only the cells that this study plans, and its contrasts; None: all, and those of all recorded studies.
        epoch: which evaluation; ``last`` is each trial's own last epoch. None: the last epoch, and in addition the
            cells of the contrasts that were declared at a numbered epoch.
        source, dataset, blocks, images, origin: only these; None: all. ``blocks`` are the source's; in a declared
            comparison of two depths the baseline has the other one.
        confidence: of the intervals, between 0 and 1.
        method: ``paired-t``, or ``paper-compatible``: the seeded percentile bootstrap, kept for comparison.

    Raises:
        InvalidRequest: for an empty root, an unknown name, or when no baseline follows from the data.
        ResultsConflict: for two trials with the same keys, or one seed with two subsets.
    """
    epoch = None if epoch is None else epoch_of(epoch)
    store = open_results(root)
    evaluations = read_trials(store, GRID_KIND, [*COLUMNS, *LOSSES])
    whole = frame(evaluations)
    if whole.empty:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"{store.uri} has no finished fine-tuning trial yet. Fix: run some with `deltasweep launch` or `resume`",
            file=store.uri,
        )
    contrasts = declared_in(store, study)
    asked = whole if study is None else of_study(whole, store, study)
    data = where(asked, dataset=dataset, blocks=blocks, images=images, origin=origin)
    of_all_depths = where(asked, dataset=dataset, images=images, origin=origin)
    shown = set(data["blocks"])
    deep = [
        pair for pair in between_depths(of_all_depths, baseline, contrasts) if pair.depths and pair.depths[0] in shown
    ]
    chosen = [*comparisons(data, baseline, contrasts, required=not deep), *deep]
    if source is not None:
        chosen = _only_sources(data, chosen, source)
    selected = of_compared(of_all_depths, chosen)
    if isinstance(epoch, int):
        selected = selected[selected["epoch"] == epoch]
    selected = with_lengths(selected, lengths_in(store))
    cells, pairs = _deltas(data, chosen, contrasts, epoch, confidence, method, whole, selected)
    notes = [
        *unfinished({*evaluations["trial_id"].to_pylist()}, store, study),
        *without_pair(cells["no_pair"]),
        *_repeated(evaluations.num_rows - len(whole)),
        *diverged_among(pairs, evaluations),
    ]
    notes += [f"recipe {digest}: {words}" for digest, words in recipes_in_words(store, set(cells["recipe"])).items()]
    return with_notes(with_confidence(as_table(cells), confidence), notes)


def delta_cells(
    data: pd.DataFrame,
    chosen: list[Comparison],
    contrasts: Declared,
    epoch: Epoch | None = "last",
    confidence: float = 0.95,
    method: Method = DEFAULT_METHOD,
    whole: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the deltas of the chosen comparisons, as ``deltas`` does, with ``images_used`` and ``length``.

    ``family`` names the cells that are corrected together, and their number; ``declared`` is true for the cells of a
    study's contrasts; ``no_pair`` says why a cell has no pair, and is empty for others.

    Args:
        data: the requested evaluations, of all depths that ``chosen`` compares.
        whole: all evaluations of the root, which determine the declared families; None: ``data``.
    """
    return _deltas(data, chosen, contrasts, epoch, confidence, method, data if whole is None else whole, data)[0]


def cells_and_pairs(
    data: pd.DataFrame, chosen: list[Comparison], contrasts: Declared, epoch: Epoch | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ``delta_cells`` and their pairs."""
    return _deltas(data, chosen, contrasts, epoch, CONFIDENCE, DEFAULT_METHOD, data, data)


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
    """Return the cells and their pairs.

    Args:
        of_all_depths: ``data`` of all depths that are compared, with the lengths of curves.
    """
    if not 0 < confidence < 1:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected a confidence between 0 and 1, such as 0.95; got {confidence}",
            key="confidence",
        )
    if method not in get_args(Method):
        raise InvalidRequest(
            Code.WRONG_VALUE, f"expected one of the methods {', '.join(get_args(Method))}; got {method!r}", key="method"
        )
    if not chosen:
        raise InvalidRequest(
            Code.NO_ANSWER,
            "a delta needs two sources; the results have only these: "
            f"{', '.join(sorted(set(data['source']))) or 'none'}",
            key="source",
        )
    family = declared_cells(whole, contrasts)
    at = "last" if epoch is None else epoch
    pairs, counts = pair_all(at_epoch(data, at), chosen, at_epoch(of_all_depths, at))
    curve = _CURVE if epoch in ("last", None) else (*_CURVE, "epoch")
    cells = summarize(pairs, length_of(counts, of_all_depths), KEYS, curve, confidence, method)
    if epoch is None:
        more, counts = _at_numbered_epochs(data, chosen, family, of_all_depths)
        if not counts.empty:
            every = length_of(counts, of_all_depths)
            numbered = summarize(more, every, KEYS, (*_CURVE, "epoch"), confidence, method)
            cells, pairs = pd.concat([cells, numbered], ignore_index=True), pd.concat([pairs, more])
    cells = _corrected(cells, family, contrasts)
    return cells.assign(no_pair=why_no_pair(cells, whole)), pairs


def _repeated(number: int) -> list[str]:
    if not number:
        return []
    what = "evaluation is" if number == 1 else "evaluations are"
    return [f"{number:,} {what} repeated in trials that differ only in evaluate_every: counted once"]


def _at_numbered_epochs(
    data: pd.DataFrame, chosen: list[Comparison], family: pd.DataFrame, of_all_depths: pd.DataFrame
) -> Pairing:
    """Return the pairs and cells of declared families that are not at a last epoch."""
    rows, deep = (
        every[(every["epoch"] != every["epochs"]) & every["epoch"].isin(family["epoch"])]
        for every in (data, of_all_depths)
    )
    if rows.empty and deep.empty:
        return Pairing(rows, rows)
    paired = pair_all(rows, chosen, deep)
    return Pairing(*(part.merge(family[list(KEYS)], on=list(KEYS), how="inner") for part in paired))


def as_table(cells: pd.DataFrame) -> pa.Table:
    """Select the public columns and sort the rows for reading."""
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
    """Apply Holm's correction within each family; ``method`` names the family of each cell.

    The root's own cells outside declared contrasts are exploratory: they belong to no family and get no adjusted p.
    Imported cells, and own cells where no study declared a contrast, form a family of the requested cells; imported
    cells of comparisons that are only in named families form one family per name.
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
    """Return each cell's family name if its comparison is only in named families, else an empty string."""
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
    kept = [comparison for comparison in chosen if comparison.source in wanted]
    if chosen and not kept:
        compared = ", ".join(dict.fromkeys(comparison.words for comparison in chosen))
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"expected a source that is compared with a baseline; got {', '.join(sorted(wanted))}. Comparisons: "
            f"{compared}. Fix: name another source or another baseline",
            key="source",
        )
    return kept
