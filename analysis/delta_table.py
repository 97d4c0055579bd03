"""The deltas of a results root: how much better each source transfers than its baseline.

An interval covers the noise of subset and fine-tuning, given one checkpoint per arm and a fixed test set.
It does not say what another checkpoint, trained the same way from another seed, would do.
"""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.cells import Method, summarize
from analysis.comparisons import Comparison, Declared, comparisons, declared
from analysis.delta_schema import DELTAS
from analysis.evaluations import open_results
from analysis.frames import COLUMNS, Choice, Epoch, at_epoch, frame, where
from analysis.pairing import CELL, pair
from analysis.statistics.multiple import holm
from jobs.errors import InvalidRequest
from jobs.results import read_trials, recorded_studies
from jobs.specs import Contrast

_KEYS = ("source", "baseline", *CELL)
_CURVE = ("source", "baseline", "dataset", "blocks", "recipe", "numerics", "origin")


def deltas(
    root: str | Path,
    baseline: str | None = None,
    study: str | None = None,
    *,
    epoch: Epoch = "last",
    source: Choice = None,
    dataset: Choice = None,
    blocks: Choice = None,
    images: Choice = None,
    origin: Choice = None,
    confidence: float = 0.95,
    method: Method = "paired-t",
) -> pa.Table:
    """One row a cell: source minus baseline, paired by seed, with intervals (columns of ``DELTAS``).

    Args:
        baseline: a source; None: the baselines of the recorded contrasts, else the only source with
            constraint none.
        study: whose contrasts to take; None: those of all recorded studies.
        epoch: which evaluation; ``last`` is each trial's own last epoch.
        source, dataset, blocks, images, origin: only these; None: all.
        confidence: of the intervals, between 0 and 1.
        method: ``paired-t``, or ``paper-compatible``: the seeded percentile bootstrap, kept for comparison.

    Raises:
        InvalidRequest: for an empty root, an unknown name, or when no baseline follows from the data.
        ResultsConflict: for two trials under one key, or one seed with two subsets.
    """
    store = open_results(root)
    data = frame(read_trials(store, "finetune", list(COLUMNS)))
    if data.empty:
        raise InvalidRequest(f"{store.uri} holds no finished trial yet; `deltasweep launch` or `resume` makes some")
    contrasts = declared(recorded_studies(store), study)
    data = where(data, dataset=dataset, blocks=blocks, images=images, origin=origin)
    chosen = comparisons(data, baseline, contrasts)
    if source is not None:
        chosen = _only_sources(data, chosen, source)
    return as_table(delta_cells(data, chosen, contrasts, epoch, confidence, method))


def delta_cells(
    data: pd.DataFrame,
    chosen: list[Comparison],
    contrasts: Declared,
    epoch: Epoch = "last",
    confidence: float = 0.95,
    method: Method = "paired-t",
) -> pd.DataFrame:
    """The deltas of the chosen comparisons, as ``deltas``, with ``epochs``, ``numerics`` and ``images_used``."""
    if not 0 < confidence < 1:
        raise InvalidRequest(f"the confidence of an interval lies between 0 and 1, such as 0.95; it is {confidence}")
    if method not in get_args(Method):
        raise InvalidRequest(f"a method is one of {', '.join(get_args(Method))}; it is {method!r}")
    rows = at_epoch(data, epoch)
    if not chosen:
        raise InvalidRequest(
            f"a delta needs two sources; the results are of {', '.join(sorted(set(data['source']))) or 'none'} only"
        )
    arms = dict(list(rows.groupby("source")))
    empty = rows.iloc[:0]
    pairings = [pair(arms.get(one.source, empty), arms.get(one.baseline, empty)) for one in chosen]
    names = [{"source": one.source, "baseline": one.baseline} for one in chosen]
    pairs = pd.concat([found.pairs.assign(**name) for found, name in zip(pairings, names, strict=True)])
    counts = pd.concat([found.counts.assign(**name) for found, name in zip(pairings, names, strict=True)])
    counts = counts.sort_values(list(_KEYS), kind="stable", ignore_index=True)
    curve = _CURVE if epoch == "last" else (*_CURVE, "epoch")
    return _corrected(summarize(pairs, counts, _KEYS, curve, confidence, method), contrasts)


def as_table(cells: pd.DataFrame) -> pa.Table:
    """The public columns, in the reading order of the design."""
    order = ["source", "baseline", "origin", "recipe", "dataset", "blocks", "images_used", "epoch", "epochs"]
    ordered = cells.sort_values(order, kind="stable")
    return pa.Table.from_pandas(ordered[DELTAS.names], schema=DELTAS, preserve_index=False)


def _corrected(cells: pd.DataFrame, contrasts: Declared) -> pd.DataFrame:
    """Holm's correction within each family; ``method`` says which family a cell belongs to."""
    family = _families(cells, contrasts)
    cells["p_holm"] = np.nan
    for name in sorted(set(family) - {""}):
        members = np.array([one == name for one in family])
        p = cells.loc[members, "p_value"].to_numpy(dtype=np.float64)
        cells.loc[members, "p_holm"] = holm(p)
        tested = members & cells["p_value"].notna().to_numpy()
        cells.loc[tested, "method"] += f"; Holm over {tested.sum()} {name}"
    return cells


def _families(cells: pd.DataFrame, contrasts: Declared) -> list[str]:
    """The family of each cell: the contrasts' for own trials where a study declared some, else all asked for.

    Own cells outside of declared contrasts are exploration: they belong to no family and get no adjusted p.
    """
    whose = f"cells of the contrasts of {', '.join(contrasts.studies)}"
    families = []
    for _, cell in cells[["source", "baseline", "blocks", "epoch", "epochs", "origin"]].iterrows():
        if cell["origin"] == "imported" or not contrasts.contrasts:
            families.append(f"{'imported ' if cell['origin'] == 'imported' else ''}cells asked for")
        else:
            families.append(whose if any(_belongs(cell, one) for one in contrasts.contrasts) else "")
    return families


def _belongs(cell: "pd.Series[Any]", contrast: Contrast) -> bool:
    epoch = cell["epochs"] if contrast.epoch == "last" else contrast.epoch
    return bool(
        cell["source"] == contrast.source
        and cell["baseline"] == contrast.baseline
        and cell["blocks"] in contrast.blocks
        and cell["epoch"] == epoch
    )


def _only_sources(data: pd.DataFrame, chosen: list[Comparison], source: Choice) -> list[Comparison]:
    wanted = set(where(data, source=source)["source"])
    return [one for one in chosen if one.source in wanted]
