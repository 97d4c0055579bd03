"""From the rows of results to what is kept of each trial."""

from collections.abc import Iterable, Iterator
from itertools import pairwise, repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.paired.names import SOURCE, has_source
from jobs.kind import GRID_KIND
from jobs.provenance import THEN, history_of
from jobs.results.schema import numbering, schema
from orchestrator.live.contents import Evaluated, Run

_RUN = ("seconds", "device_kind", "packages", "host", "launch", "finished_at")
_DATASET = ("dataset", "dataset_sha256")
_VARYING = ("epoch", "test_accuracy")


def columns(kind: str) -> list[str]:
    """Return the columns that are read of a kind's results."""
    evaluated = (*Evaluated._fields, "recipe_json") if kind == GRID_KIND else ()
    source = [SOURCE] if has_source(kind) else []
    dataset = _DATASET if set(_DATASET) <= {*schema(kind).names} else ()
    return list(dict.fromkeys(["trial_id", numbering(kind), *_RUN, *dataset, *source, *evaluated]))


def runs(table: pa.Table) -> dict[str, Run]:
    """Return where and when each trial ran, from its last row.

    Args:
        table: rows in order of trial and row number.
    """
    starts = _starts(table)
    last = table.take([end - 1 for end in starts[1:]])
    values = [last[name].to_pylist() for name in ("trial_id", *_RUN)]
    datasets: Iterable[tuple[Any, Any]] = repeat((None, None))
    if set(_DATASET) <= {*table.column_names}:
        datasets = zip(last["dataset"].to_pylist(), last["dataset_sha256"].to_pylist(), strict=True)
    return {
        trial: Run(seconds, device, host, launch, finished or "", _is_mixed(device, packages), *dataset)
        for (trial, seconds, device, packages, host, launch, finished), dataset in zip(
            zip(*values, strict=True), datasets, strict=False
        )
    }


def evaluated(table: pa.Table) -> Iterator[Evaluated]:
    """Yield the evaluations of each fine-tuning trial, from its rows in order of trial and epoch."""
    starts = _starts(table)
    first = table.take(starts[:-1])
    shared = [first[name].to_pylist() for name in Evaluated._fields if name not in _VARYING]
    varying = [table[name].to_pylist() for name in _VARYING]
    for values, (start, end) in zip(zip(*shared, strict=True), pairwise(starts), strict=True):
        yield Evaluated(*values, *(tuple(column[start:end]) for column in varying))


def sources(table: pa.Table) -> dict[str, str]:
    """Return the source of each trial, from its first row; empty if the kind has none."""
    if SOURCE not in table.column_names:
        return {}
    first = table.take(_starts(table)[:-1])
    found: dict[str, Any] = dict(zip(*(first[name].to_pylist() for name in ("trial_id", SOURCE)), strict=True))
    return {trial: source for trial, source in found.items() if source is not None}


def recipes(table: pa.Table) -> dict[str, str]:
    """Return the recorded recipes of fine-tuning trials, as JSON by digest."""
    first = table.take(_starts(table)[:-1])
    found: dict[str, Any] = dict(zip(*(first[name].to_pylist() for name in ("recipe", "recipe_json")), strict=True))
    return {digest: text for digest, text in found.items() if text is not None}


def _starts(table: pa.Table) -> list[int]:
    """Return where each trial starts, and the number of rows."""
    trials = table["trial_id"].cast(pa.string()).combine_chunks()
    if not len(trials):
        return [0]
    differs = pc.not_equal(trials[1:], trials[:-1])
    return [0, *(place + 1 for place in pc.indices_nonzero(differs).to_pylist()), len(trials)]


def _is_mixed(device_kind: str | None, packages: str | None) -> bool:
    several = THEN in (device_kind or "") or THEN in (packages or "")
    return several and history_of(device_kind, packages).mixed
