"""How long `deltasweep query` takes: a compacted root of 14,400 trials x 15 rows, and 100 times as many rows.

    python benchmarks/query.py [--trials 14400] [--scales 1 10 100]

Synthetic rows. The first part is the whole of `analysis.query` on a results root with one file a trial, compacted
(the start of Python aside). The second is DuckDB over one Parquet file that grows: it shows that the time of a query
grows no faster than its rows.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

import analysis
from analysis.sql import select
from jobs.results import LocalStore, compact, read_trials, schema
from jobs.results.layout import trial_key
from jobs.results.parquet import encode

ROWS = 15
REPEATS = 5
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
    """``count`` trials of ``ROWS`` evaluations, numbered from ``start``: every column filled, in order of id.

    What differs from row to row, or from trial to trial, in real results does so here.
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
    """A number for the dataset, size and seed of a trial, whatever its source and blocks."""
    return 7919 * (number // 96 * 6 + number // 4 % 6)


def _constant(field: pa.Field, constants: dict[str, str], rows: int) -> pa.Array:
    if pa.types.is_string(field.type):
        return pa.array([constants.get(field.name, "a text as long as a host name")] * rows)
    return pa.array(np.ones(rows), field.type)


def seconds(work: Callable[[], object]) -> Iterator[float]:
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        yield time.perf_counter() - start


def told(work: Callable[[], object]) -> str:
    times = sorted(seconds(work))
    return f"{times[len(times) // 2]:8.3f} s  (best {times[0]:.3f})"


def make_root(directory: Path, count: int) -> None:
    """A root with one file a trial, compacted. Not durable: a benchmark need not survive a power cut."""
    table = trials(count)
    for index in range(count):
        rows = table.slice(index * ROWS, ROWS)
        target = directory / trial_key("finetune", rows["trial_id"][0].as_py())
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode(rows))
    compact(LocalStore(directory), "finetune")


def whole_root(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        make_root(Path(folder), count)
        print(f"results root of {count:,} trials x {ROWS} rows, made in {time.perf_counter() - start:.0f} s; query:")
        for name, sql in QUERIES.items():
            print(f"  {name:10}{told(lambda sql=sql: analysis.query(folder, sql))}{_plain_text(folder, sql)}")


def _plain_text(folder: str, sql: str) -> str:
    """The same query with text read as plain columns, not as dictionaries: what that idea saves."""

    def plain(*given: object, **_: object) -> pa.Table:
        return read_trials(*given)

    with patch("analysis.sql.read_trials", plain):
        return f"   text as plain columns: {told(lambda: analysis.query(folder, sql))}"


def growing_file(count: int, scale: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evaluations.parquet"
        with pq.ParquetWriter(path, schema("finetune"), compression="zstd") as writer:
            for part in range(scale):
                writer.write_table(trials(count, part * count))
        print(
            f"one Parquet file of {count * ROWS * scale:,} rows ({path.stat().st_size / 1e6:.0f} MB); DuckDB over it:"
        )
        views = {"evaluations": ds.dataset(path)}
        for name, sql in QUERIES.items():
            print(f"  {name:10}{told(lambda sql=sql: select(sql, views))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=14_400)
    parser.add_argument("--scales", type=int, nargs="*", default=[1, 10, 100])
    given = parser.parse_args()
    whole_root(given.trials)
    for scale in given.scales:
        growing_file(given.trials, scale)


if __name__ == "__main__":
    main()
