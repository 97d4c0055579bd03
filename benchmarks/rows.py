"""Results of benchmarks: ratios or amounts with their spread, printed as a table and kept as JSON.

They are kept in ``benchmarks/results``, one file for each kind of processor.
"""

import json
import os
import re
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from jobs.system.processor import cpu_name, read_cpuinfo

RESULTS = "BENCHMARK_RESULTS"
"""Environment variable: the file of results, if other than the processor's."""


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
    """Return the quartiles, which are within the ratios. Of one ratio all three equal it: it has no spread."""
    return tuple(statistics.quantiles(ratios, n=4, method="inclusive")) if len(ratios) > 1 else (ratios[0],) * 3


def in_words(row: Row) -> str:
    """Return a row as a line of text."""
    target = "" if row.target is None else f"  target {row.target:g}: {'holds' if row.holds else 'DOES NOT HOLD'}"
    return f"{row.name:60} {row.ratio:8.4f}  [{row.low:.4f}, {row.high:.4f}]{target}"


def results_file() -> Path:
    """Return the file in which rows are kept."""
    slug = re.sub(r"[^a-z0-9]+", "-", cpu_name(read_cpuinfo()).lower()).strip("-")
    return Path(os.environ.get(RESULTS) or Path(__file__).parent / "results" / f"{slug}.json")


def report(rows: Sequence[Row]) -> None:
    """Print the rows and keep them, with the date and the load, instead of rows of the same name."""
    for row in rows:
        print(in_words(row), flush=True)
    file = results_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {row["name"]: row for row in json.loads(file.read_text())["rows"]} if file.is_file() else {}
    taken = {
        "date": datetime.now(UTC).date().isoformat(),
        "load": round(os.getloadavg()[1], 1),
        "torch": version("torch"),
    }
    known |= {row.name: {**row._asdict(), **taken} for row in rows}
    kept = {"processor": cpu_name(read_cpuinfo()), "cores": os.cpu_count(), "rows": list(known.values())}
    file.write_text(json.dumps(kept, indent=1) + "\n")
