"""Results of benchmarks: ratios or amounts with their spread, printed as a table and written as JSON."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results" / "latest.json"


class Row(NamedTuple):
    """A ratio of two measurements in the same run, or an amount whose unit is in ``name``.

    ``low`` and ``high`` are quartiles; ``target`` is the bound to meet, or None."""

    name: str
    ratio: float
    low: float
    high: float
    target: float | None
    holds: bool | None


def at_most(name: str, ratios: Sequence[float], target: float) -> Row:
    """Return the median and quartiles of repeated ratios. The row holds if the median is at most the target."""
    low, middle, high = _quartiles(ratios)
    return Row(name, middle, low, high, target, middle <= target)


def at_least(name: str, ratios: Sequence[float], target: float) -> Row:
    """Return the median and quartiles of repeated ratios. The row holds if the median is at least the target."""
    low, middle, high = _quartiles(ratios)
    return Row(name, middle, low, high, target, middle >= target)


def beside(name: str, ratios: Sequence[float]) -> Row:
    """Return the median and quartiles of repeated ratios, without a target."""
    low, middle, high = _quartiles(ratios)
    return Row(name, middle, low, high, None, None)


def _quartiles(ratios: Sequence[float]) -> tuple[float, ...]:
    """Return the quartiles. A measurement that was not repeated has no spread: all three equal the ratio."""
    return tuple(statistics.quantiles(ratios, n=4)) if len(ratios) > 1 else (ratios[0],) * 3


def in_words(row: Row) -> str:
    """Return a row as a line of text."""
    target = "" if row.target is None else f"  target {row.target:g}: {'holds' if row.holds else 'DOES NOT HOLD'}"
    return f"{row.name:60} {row.ratio:8.4f}  [{row.low:.4f}, {row.high:.4f}]{target}"


def report(rows: Sequence[Row]) -> None:
    """Print the rows and write them to ``results/latest.json``, replacing rows of the same name."""
    for row in rows:
        print(in_words(row), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    known = {row["name"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.is_file() else {}
    known |= {row.name: row._asdict() for row in rows}
    RESULTS.write_text(json.dumps(list(known.values()), indent=2) + "\n")
