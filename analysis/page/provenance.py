"""Which code, weights, data and machines the results come from."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jobs.provenance import THEN, parts_of
from jobs.results import Store, kinds, read_trials, schema

COLUMNS = ("kind", "what", "value", "trials")

Rows = list[tuple[str, ...]]


def provenance(trials: pa.Table | None, examinations: Mapping[str, pa.Table]) -> Rows:
    """Rows of (kind, what, value, trials): each distinct value with the number of trials that have it.

    Args:
        trials: the last evaluation of each fine-tuned trial; None: there is none.
        examinations: as ``examined`` gives them.
    """
    rows: Rows = []
    if trials is not None:
        weights = _named(trials["source"], trials["weights_sha256"])
        rows += [("finetune", *row) for row in _of_kind(trials, [("source, sha256", weights)])]
    for kind, table in examinations.items():
        rows += [(kind, *row) for row in _of_kind(table, _networks(table))]
    return rows


def examined(store: Store) -> dict[str, pa.Table]:
    """Of each kind that looks at networks and has finished trials, a row a trial with what is told here."""
    looking = [kind for kind in kinds() if "network_sha256" in schema(kind).names]
    found = {kind: read_trials(store, kind, list(_READ), encoded=True) for kind in looking}
    return {
        kind: table.filter(pa.array(~table["trial_id"].to_pandas().duplicated()))
        for kind, table in found.items()
        if table.num_rows
    }


def _networks(table: pa.Table) -> list[tuple[str, list[str | None]]]:
    """Sources by the digest of their weights; fine-tuned networks, of which each trial has its own, by their source."""
    of_source = pc.is_null(table["finetuned"])
    sources = table["source"].cast(pa.string())
    return [
        ("source, sha256", _named(*(column.filter(of_source) for column in (sources, table["network_sha256"])))),
        ("fine-tuned from source", sources.filter(pc.invert(of_source)).to_pylist()),
    ]


def _of_kind(trials: pa.Table, networks: Sequence[tuple[str, Sequence[str | None]]]) -> Rows:
    """What the trials of one kind were made with."""
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
    """Names with the beginning of what they stood for."""
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
    """Each distinct value that is known, with its count, in order of value."""
    counts = Counter(str(value) for value in values if value not in (None, ""))
    return [(value, f"{counts[value]:,}") for value in sorted(counts)]


def _packages(text: str) -> str:
    return THEN.join(", ".join(sorted(_told(part))) for part in parts_of(text))


def _recipe(text: str | None) -> str:
    return "not known" if text is None else ", ".join(_told(text))


def _told(text: str) -> list[str]:
    """The pairs of a JSON object; text that is none, as it is: what strangers wrote is shown, too."""
    try:
        return [f"{name} {value}" for name, value in json.loads(text).items()]
    except (ValueError, AttributeError, RecursionError):
        return [text]
