"""Which code, weights, data and machines the results come from."""

import json
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

COLUMNS = ("what", "value", "trials")


def provenance(trials: pa.Table) -> list[tuple[str, ...]]:
    """Rows of (what, value, trials): each distinct value with the number of trials that have it.

    Args:
        trials: the last evaluation of each finished trial.
    """
    rows: list[tuple[str, ...]] = []
    for column, words in _SIMPLE.items():
        rows += [(words, value, count) for value, count in _counted(trials[column].to_pylist())]
    rows += [("packages", _packages(value), count) for value, count in _counted(trials["packages"].to_pylist())]
    for name, digest in (("source", "weights_sha256"), ("dataset", "dataset_sha256")):
        pairs = [
            f"{one} {other[:16]}" if other else None
            for one, other in zip(trials[name].to_pylist(), trials[digest].to_pylist(), strict=True)
        ]
        rows += [(f"{name}, sha256", value, count) for value, count in _counted(pairs)]
    recipes = dict(zip(trials["recipe"].to_pylist(), trials["recipe_json"].to_pylist(), strict=True))
    counts = dict(_counted(trials["recipe"].to_pylist()))
    rows += [("recipe", f"{name}: {_recipe(recipes[name])}", counts[name]) for name in sorted(recipes)]
    return rows


_SIMPLE = {
    "origin": "origin",
    "code_version": "DeltaSweep",
    "numerics": "numerics",
    "device_kind": "device",
    "host": "host",
    "launch": "launch",
}


def _counted(values: Sequence[object]) -> list[tuple[str, str]]:
    """Each distinct value that is known, with its count, in order of value."""
    counts = Counter(str(value) for value in values if value not in (None, ""))
    return [(value, f"{counts[value]:,}") for value in sorted(counts)]


def _packages(text: str) -> str:
    return ", ".join(sorted(_told(text)))


def _recipe(text: str | None) -> str:
    return "not known" if text is None else ", ".join(_told(text))


def _told(text: str) -> list[str]:
    """The pairs of a JSON object; text that is none, as it is: what strangers wrote is shown, too."""
    try:
        return [f"{name} {value}" for name, value in json.loads(text).items()]
    except (ValueError, AttributeError):
        return [text]
