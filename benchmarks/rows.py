"""Results of benchmarks: ratios or amounts with their spread, printed as a table and kept as JSON.

They are kept in ``benchmarks/results``, one file for each kind of processor.
"""

import json
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from jobs.system.files import write_files
from jobs.system.processor import cpu_name, read_cpuinfo

RESULTS = "BENCHMARK_RESULTS"
"""Environment variable: the file of results, if other than the processor's."""

PART = "BENCHMARK_PART"
"""Environment variable: the part of ``make bench`` that reports; not set in a part that runs alone."""


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
    """Print the rows and keep them, with their part, the time and the load, instead of rows of the same name.

    A row that ``make bench`` has measured remains one of its part if it is measured again alone.
    """
    for row in rows:
        print(in_words(row), flush=True)
    kept = _kept()
    taken = {"date": now(), "load": round(os.getloadavg()[1], 1), "torch": version("torch")}
    for row in rows:
        part = os.environ.get(PART) or kept.get(row.name, {}).get("part")
        kept[row.name] = {**row._asdict(), "part": part, **taken}
    _keep(kept)


def remove_older(part: str, time: str) -> None:
    """Remove the rows of a part that were measured before a time (``now``): the part no longer has them."""
    kept = _kept()
    _keep({name: row for name, row in kept.items() if row.get("part") != part or row["date"] >= time})


def now() -> str:
    """Return the time in UTC; later ones are greater. Older files have only the date, which is less."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _kept() -> dict[str, dict[str, Any]]:
    """Return the rows of the file by name. Those of older files have no part."""
    file = results_file()
    return {row["name"]: row for row in json.loads(file.read_bytes())["rows"]} if file.is_file() else {}


def _keep(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the file, at once, so that a run that is interrupted damages no rows."""
    file = results_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {"processor": cpu_name(read_cpuinfo()), "cores": os.cpu_count(), "rows": list(rows.values())}
    write_files({file: f"{json.dumps(kept, indent=1)}\n".encode()})
