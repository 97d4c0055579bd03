"""The code, weights, data and machines behind the results."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from analysis.page.results import Results
from analysis.page.section import Content
from analysis.words import counted
from jobs.kind import GRID_KIND
from jobs.provenance import HISTORY_COLUMNS, THEN, history_of, parts_of
from jobs.results import Store, kinds, mixed_trials, read_trials, schema

COLUMNS = ("kind", "what", "value", "trials")

Rows = list[tuple[str, ...]]


def contents(results: Results) -> Iterator[Content]:
    looked = examined(results.store)
    trials = None if results.data.empty else results.trials
    if trials is not None or looked:
        others = [kind for kind in kinds() if kind != GRID_KIND and kind not in looked]
        mixed = sum(map(_mixed, [results.trials, *looked.values()])) + len(mixed_trials(results.store, others))
        values = {
            "mixed": counted(mixed, "trial") if mixed else "",
            "columns": COLUMNS,
            "rows": provenance(trials, looked),
        }
        yield Content(title="Provenance", template="provenance.html", values=values)


def _mixed(trials: pa.Table) -> int:
    """Return the number of these trials (one row each) that ran on several kinds of device or versions of torch."""
    histories = Counter(zip(*(trials[name].to_pylist() for name in HISTORY_COLUMNS), strict=True))
    return sum(count for history, count in histories.items() if history_of(*history).mixed)


def provenance(trials: pa.Table | None, examinations: Mapping[str, pa.Table]) -> Rows:
    """Return rows of (kind, what, value, trials): each distinct value with the number of trials that have it.

    Args:
        trials: the last evaluation of each fine-tuning trial; None if there is none.
        examinations: as returned by ``examined``.
    """
    rows: Rows = []
    if trials is not None:
        weights = _named(trials["source"], trials["weights_sha256"])
        rows += [(GRID_KIND, *row) for row in _of_kind(trials, [("source, sha256", weights)])]
    for kind, table in examinations.items():
        rows += [(kind, *row) for row in _of_kind(table, _networks(table))]
    return rows


def examined(store: Store) -> dict[str, pa.Table]:
    """Return, for each kind that examines networks and has finished trials, one row per trial with the columns read."""
    looking = [kind for kind in kinds() if "network_sha256" in schema(kind).names]
    tables = {kind: read_trials(store, kind, list(_READ), encoded=True) for kind in looking}
    return {
        kind: table.filter(pa.array(~table["trial_id"].to_pandas().duplicated()))
        for kind, table in tables.items()
        if table.num_rows
    }


def _networks(table: pa.Table) -> list[tuple[str, list[str | None]]]:
    """Return sources with the digests of their weights, and the sources of fine-tuned networks, without digests."""
    of_source = pc.is_null(table["finetuned"])
    sources = table["source"].cast(pa.string())
    return [
        ("source, sha256", _named(*(column.filter(of_source) for column in (sources, table["network_sha256"])))),
        ("fine-tuned from source", sources.filter(pc.invert(of_source)).to_pylist()),
    ]


def _of_kind(trials: pa.Table, networks: Sequence[tuple[str, Sequence[str | None]]]) -> Rows:
    """Return the rows for the trials of one kind."""
    rows: Rows = []
    for column, words in _SIMPLE.items():
        rows += [(words, value, count) for value, count in _counted(trials[column].to_pylist())]
    rows += [("packages", _packages(value), count) for value, count in _counted(trials["packages"].to_pylist())]
    for words, names in [*networks, ("dataset, sha256", _named(trials["dataset"], trials["dataset_sha256"]))]:
        rows += [(words, value, count) for value, count in _counted(names)]
    recipes = dict(zip(trials["recipe"].to_pylist(), trials["recipe_json"].to_pylist(), strict=True))
    counts = dict(_counted(trials["recipe"].to_pylist()))
    rows += [("recipe", f"{name}: {_recipe(recipes[name])}", counts[name]) for name in sorted(recipes)]
    return rows


def _named(names: pa.ChunkedArray, digests: pa.ChunkedArray) -> list[str | None]:
    """Return names, each followed by the first digits of its digest."""
    return [
        f"{name} {digest[:16]}" if digest else None
        for name, digest in zip(names.to_pylist(), digests.to_pylist(), strict=True)
    ]


_SIMPLE = {
    "origin": "origin",
    "code_version": "DeltaSweep",
    "numerics": "numerics",
    "device_kind": "device",
    "host": "host",
    "launch": "launch",
}
_READ = (
    *("trial_id", *_SIMPLE, "packages", "recipe", "recipe_json"),
    *("source", "finetuned", "network_sha256", "dataset", "dataset_sha256"),
)


def _counted(values: Sequence[object]) -> list[tuple[str, str]]:
    """Return each distinct known value with its count, sorted by value."""
    counts = Counter(str(value) for value in values if value not in (None, ""))
    return [(value, f"{counts[value]:,}") for value in sorted(counts)]


def _packages(text: str) -> str:
    return THEN.join(", ".join(sorted(_told(part))) for part in parts_of(text))


def _recipe(text: str | None) -> str:
    return "unknown" if text is None else ", ".join(_told(text))


def _told(text: str) -> list[str]:
    """Format the pairs of a JSON object; untrusted text that is not one is returned unchanged."""
    try:
        return [f"{name} {value}" for name, value in json.loads(text).items()]
    except (ValueError, AttributeError, RecursionError):
        return [text]
