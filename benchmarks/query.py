"""Duration of `deltasweep query` for 14,400 trials x 15 rows, and its growth up to 100 times as many.

    python -m benchmarks.query [--trials 14400] [--scales 1 10 100] [--repeats 5]

Times all of `analysis.query` on compacted roots of synthetic rows, without the start of Python. The compacted file is
written in parts to limit memory, and the trials' own files are empty, since a query lists them but reads none that the
index covers. 100 times 14,400 trials take 1 GB of disk, 1.4 million files and 4 GB of memory. `SELECT *` of one trial
decodes every column of every row and is skipped at that size.
"""

import argparse
import hashlib
import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import analysis
from benchmarks.rows import Row, at_most, beside, report
from jobs.results import read_trials, schema
from jobs.results.index import Entry, render
from jobs.results.layout import CURRENT, compact_key, generation_name, trial_key

ROWS = 15
WITHIN = 0.3
"""Target in seconds for a query of 14,400 trials x 15 rows."""
WIDE = frozenset({"one trial"})
MOST_OF_WIDE = 10
"""Largest scale for the queries in ``WIDE``, which read all columns and need too much memory beyond it."""
QUERIES = {
    "count": "SELECT count(*) FROM evaluations",
    "means": """SELECT source, dataset, images, avg(test_accuracy) AS mean, stddev(test_accuracy) AS sd, count(*) AS n
                FROM trials GROUP BY ALL ORDER BY ALL""",
    "pairs": """SELECT a.dataset, a.images, avg(a.test_accuracy - b.test_accuracy) AS delta
                FROM trials a JOIN trials b USING (dataset, blocks, images, seed, recipe, origin)
                WHERE a.source = 'l2_eps3' AND b.source = 'natural' GROUP BY ALL ORDER BY ALL""",
    "one trial": "SELECT * FROM evaluations WHERE trial_id = (SELECT min(trial_id) FROM evaluations) ORDER BY epoch",
}
SOURCES = ("natural", "l2_eps3", "linf_eps4", "linf_eps8")
CONSTRAINTS = ("none", "l2", "linf", "linf")
DATASETS = ("cifar100", "cifar10", "svhn", "fmnist", "kmnist", "mnist")
SIZES = tuple(100 * 2**i for i in range(10))


def trials(count: int, start: int = 0) -> pa.Table:
    """Return ``count`` trials of ``ROWS`` evaluations, numbered from ``start`` and ordered by id.

    All columns are filled. Values that differ between rows or trials in real results also differ here.
    """
    number = np.repeat(np.arange(start, start + count), ROWS)
    rng = np.random.default_rng(start)
    text = {
        "source": np.array(SOURCES)[number % 4],
        "dataset": np.array(DATASETS)[number // 4 % 6],
        "constraint": np.array(CONSTRAINTS)[number % 4],
        "trial_id": [f"finetune-benchmark-{one:016x}" for one in range(start, start + count) for _ in range(ROWS)],
        "subset_sha256": [f"{_subset(one):064x}" for one in range(start, start + count) for _ in range(ROWS)],
        "host": np.array([f"worker-{one}.cluster.internal" for one in range(16)])[number % 16],
    }
    integers = {
        "blocks": np.array([0, 1, 3, 9])[number // 24 % 4],
        "images": np.array(SIZES)[number // 96 % 10],
        "images_used": np.array(SIZES)[number // 96 % 10],
        "seed": 20_000_000 + 100_000 * (number // 960),
        "epoch": np.tile(np.arange(1, ROWS + 1) * 10, count),
        "epochs": np.full(len(number), ROWS * 10),
    }
    floats = {
        **{name: rng.uniform(10, 99, len(number)) for name in ("test_accuracy", "train_accuracy", "seconds")},
        **{name: rng.uniform(0, 3, len(number)) for name in ("test_loss", "train_loss")},
    }
    constants = {
        "recipe": "0123456789ab",
        "origin": "run",
        "packages": "{}",
        "recipe_json": '{"what a recipe says": "%s"}' % ("of twenty choices or so " * 15),
    }
    found: dict[str, object] = {**text, **integers, **floats}
    columns = [
        pa.array(found[field.name], field.type) if field.name in found else _constant(field, constants, len(number))
        for field in schema("finetune")
    ]
    return pa.Table.from_arrays(columns, schema=schema("finetune"))


def _subset(number: int) -> int:
    """Return a number that depends on a trial's dataset, size and seed, but not on its source and blocks."""
    return 7919 * (number // 96 * 6 + number // 4 % 6)


def _constant(field: pa.Field, constants: dict[str, str], rows: int) -> pa.Array:
    if pa.types.is_string(field.type):
        return pa.array([constants.get(field.name, "a text as long as a host name")] * rows)
    return pa.array(np.ones(rows), field.type)


def make_root(directory: Path, count: int, scale: int) -> None:
    """Write a root of ``scale`` times ``count`` compacted trials."""
    key = compact_key(generation_name(datetime.now(UTC), "0" * 8), "finetune")
    path = directory / key
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, schema("finetune"), compression="zstd", write_page_checksum=True) as writer:
        for part in range(scale):
            table = trials(count, part * count)
            writer.write_table(table, row_group_size=122_880)
            _touch(directory, table["trial_id"].unique().to_pylist())
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    entry = Entry(key, sha256, count * ROWS * scale, count * scale)
    (directory / CURRENT).write_bytes(render({"finetune": entry}))


def _touch(directory: Path, ids: list[str]) -> None:
    for trial_id in ids:
        path = directory / trial_key("finetune", trial_id)
        try:
            path.touch()
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def measure(roots: dict[int, Path], repeats: int) -> dict[str, dict[int, list[float]]]:
    """Return the seconds of each query by scale. Scales take turns, so that other load slows all of them alike."""
    found: dict[str, dict[int, list[float]]] = {}
    for name, sql in QUERIES.items():
        kept = {scale: root for scale, root in roots.items() if name not in WIDE or scale <= MOST_OF_WIDE}
        works = {scale: partial(analysis.query, root, sql) for scale, root in kept.items()}
        found[name] = turns(works, repeats)
        plain = turns({1: works[1], 0: partial(_plain_text, roots[1], sql)}, repeats)
        found[f"{name}, text as dictionaries"], found[f"{name}, as plain columns"] = {1: plain[1]}, {1: plain[0]}
        for scale, times in found[name].items():
            what = f"{name}, {scale} x the rows"
            print(
                f"  {what:30}{sorted(times)[len(times) // 2]:8.3f} s  (best {min(times):.3f}, worst {max(times):.3f})"
            )
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"  memory so far {most:.1f} GiB, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    return found


def turns(works: Mapping[int, Callable[[], object]], repeats: int) -> dict[int, list[float]]:
    """Time each function in turn, ``repeats`` times after a warm-up, and return its seconds."""
    times: dict[int, list[float]] = {key: [] for key in works}
    for _ in range(repeats + 1):
        for key, work in works.items():
            start = time.perf_counter()
            work()
            times[key].append(time.perf_counter() - start)
    return {key: taken[1:] for key, taken in times.items()}


def _plain_text(root: Path, sql: str) -> None:
    """Run the same query with text read as plain columns instead of dictionaries."""

    def plain(*given: Any, **_: object) -> pa.Table:
        return read_trials(*given)

    with patch("analysis.sql.query.read_trials", plain):
        analysis.query(root, sql)


def rows(count: int, found: dict[str, dict[int, list[float]]]) -> list[Row]:
    """Return rows for the time limit, for dictionaries vs plain text, and for growth relative to that of the rows."""
    made = []
    for name in QUERIES:
        once = found[name][1]
        made.append(at_most(f"query {name}: seconds, {count:,} trials x {ROWS} rows", once, WITHIN))
        both = zip(found[f"{name}, text as dictionaries"][1], found[f"{name}, as plain columns"][1], strict=True)
        made.append(beside(f"query {name}: text as dictionaries / plain", [one / other for one, other in both]))
        for scale, times in found[name].items():
            if scale > 1:
                growth = [many / one / scale for many, one in zip(times, once, strict=True)]
                made.append(at_most(f"query {name}: {scale} x the rows: growth of time / of rows", growth, 1))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=14_400)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 10, 100], help="always includes 1")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    scales = sorted({1, *given.scales})
    with ExitStack() as kept:
        roots = {scale: Path(kept.enter_context(tempfile.TemporaryDirectory())) for scale in scales}
        for scale, root in roots.items():
            start = time.perf_counter()
            make_root(root, given.trials, scale)
            amount = given.trials * scale
            print(
                f"{amount:,} trials, {amount * ROWS:,} rows, written in {time.perf_counter() - start:.0f} s", flush=True
            )
        report(rows(given.trials, measure(roots, given.repeats)))


if __name__ == "__main__":
    main()
