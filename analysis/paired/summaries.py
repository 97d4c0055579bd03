"""Summaries over all datasets: by how much, and how often, a source transfers better than its baseline."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.evaluations.frames import COLUMNS, Choice, at_epoch, frame, where
from analysis.evaluations.lengths import length_of, with_lengths
from analysis.evaluations.reading import open_results
from analysis.paired.contrasts import Comparison, comparisons, declared_in, lengths_in, of_compared
from analysis.paired.pairing import pair
from analysis.statistics.aggregate import (
    Estimate,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
)
from analysis.statistics.paired_t import Floats
from jobs.errors import Code, InvalidRequest
from jobs.kind import GRID_KIND
from jobs.results import read_trials

SUMMARY = pa.schema(
    [
        *((name, pa.string()) for name in ("source", "baseline", "origin", "recipe", "length")),
        *((name, pa.int64()) for name in ("numerics", "blocks", "images", "n_datasets", "n_pairs")),
        *(
            pa.field(name, pa.float64(), metadata={"unit": "percentage points"})
            for name in ("iqm_delta", "iqm_low", "iqm_high")
        ),
        *((name, pa.float64()) for name in ("p_improvement", "p_improvement_low", "p_improvement_high")),
    ]
)
"""One row per (comparison, length, blocks, images); ``iqm_delta`` is the interquartile mean of paired differences."""

_KEYS = ["origin", "recipe", "length", "numerics", "blocks", "images"]


def aggregate(
    root: str | Path,
    baseline: str | None = None,
    *,
    dataset: Choice = None,
    blocks: Choice = None,
    seed: int = 0,
) -> pa.Table:
    """Compute interquartile mean and probability of improvement over datasets at the last epoch (``SUMMARY``).

    Intervals (95 %) come from a paired bootstrap within each dataset. A dataset with fewer than two pairs is left out;
    ``n_datasets`` counts the others. Where a cell has trials of several lengths, each is a row of its own, with its
    ``length`` in words.

    Args:
        seed: of the bootstrap.

    Raises:
        InvalidRequest: for an empty root, an unknown name, or when no baseline follows from the data.
    """
    store = open_results(root)
    data = where(frame(read_trials(store, GRID_KIND, list(COLUMNS))), dataset=dataset, blocks=blocks)
    if data.empty:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"{store.uri} has no finished fine-tuning trial yet. Fix: run some with `deltasweep launch` or `resume`",
            file=store.uri,
        )
    chosen = comparisons(data, baseline, declared_in(store))
    last = with_lengths(of_compared(at_epoch(data, "last"), chosen), lengths_in(store))
    rows = [row for comparison in chosen for row in _rows(last, comparison, seed)]
    return pa.Table.from_pylist(rows, schema=SUMMARY)


def _rows(last: pd.DataFrame, comparison: Comparison, seed: int) -> list[dict[str, object]]:
    ours = last[last["source"] == comparison.source]
    paired = pair(ours, last[last["source"] == comparison.baseline])
    rows = []
    for key, group in length_of(paired.pairs, ours).groupby(_KEYS, sort=True):
        by_dataset = group.groupby("dataset")["difference"]
        arrays = {str(name): values.to_numpy(np.float64) for name, values in by_dataset}
        strata = {name: values for name, values in arrays.items() if len(values) > 1}
        if strata:
            identity = dict(zip(_KEYS, key, strict=True))
            rows.append(
                {"source": comparison.source, "baseline": comparison.baseline, **identity, **_estimates(strata, seed)}
            )
    return rows


def _estimates(strata: dict[str, Floats], seed: int) -> dict[str, object]:
    middle = stratified_bootstrap(interquartile_mean, strata, np.random.default_rng([seed, 0]))
    better = stratified_bootstrap(probability_of_improvement, strata, np.random.default_rng([seed, 1]))
    counts = {"n_datasets": len(strata), "n_pairs": sum(map(len, strata.values()))}
    return {**counts, **_named("iqm", middle, "_delta"), **_named("p_improvement", better)}


def _named(name: str, estimate: Estimate, suffix: str = "") -> dict[str, float]:
    return {f"{name}{suffix}": estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
