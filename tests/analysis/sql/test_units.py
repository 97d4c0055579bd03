"""A query's result has the units of the columns it passes through; no unit is given where it is uncertain."""

import io
import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

import analysis
from analysis.output.formats import parquet
from analysis.sql import query as query_module
from analysis.sql import units as units_module
from analysis.sql.units import units, units_of
from jobs.results import schema
from tests.analysis.support import Build


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = Build(tmp_path_factory.mktemp("units"))
    return build.root(build.arms([50.0, 51.0], [54.0, 55.0], seconds=3.0))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT seed, seconds FROM trials", {"seconds": "seconds"}),
        ("SELECT seconds AS s, test_accuracy a FROM evaluations", {"s": "seconds", "a": "percent"}),
        ("SELECT t.seconds FROM trials AS t", {"seconds": "seconds"}),
        ("SELECT T.Seconds FROM Trials t", {"seconds": "seconds"}),
        (
            "SELECT source, avg(test_accuracy) AS mean, max(seconds) FROM trials GROUP BY ALL",
            {"mean": "percent", 'max("seconds")': "seconds"},
        ),
        ("SELECT round(avg(test_accuracy), 1) AS mean FROM trials", {"mean": "percent"}),
        ("SELECT CAST(seconds AS FLOAT) AS s FROM trials", {"s": "seconds"}),
        # computed columns have no units
        ("SELECT seconds / 60 AS seconds FROM trials", {}),
        ("SELECT test_accuracy - test_loss AS x, -seconds AS y FROM trials", {}),
        ("SELECT count(seconds) AS n FROM trials", {}),
        ("SELECT * REPLACE (seconds / 60 AS seconds) FROM (SELECT seed, seconds FROM trials)", {}),
        ("SELECT * RENAME (seconds AS s) FROM (SELECT seed, seconds FROM trials)", {}),
        ("SELECT 'x' AS seconds, seed AS test_accuracy FROM trials", {}),
        # through subqueries, joins, aliases and unions
        ("SELECT x FROM (SELECT seconds AS x FROM trials)", {"x": "seconds"}),
        ("SELECT s FROM (SELECT seconds FROM trials) AS t(s)", {"s": "seconds"}),
        ("WITH w AS (SELECT avg(seconds) AS m FROM trials) SELECT m FROM w", {"m": "seconds"}),
        ("WITH w(m) AS (SELECT seconds FROM trials) SELECT m FROM w", {"m": "seconds"}),
        ("WITH trials AS (SELECT 1 AS seconds) SELECT seconds FROM trials", {}),
        ("SELECT a.seconds, b.seed AS s FROM trials a JOIN trials b USING (seed)", {"seconds": "seconds"}),
        ("SELECT seconds AS x FROM trials UNION ALL SELECT seconds FROM trials", {"x": "seconds"}),
        ("SELECT seconds AS x FROM trials UNION ALL SELECT test_accuracy FROM trials", {}),
        ("SELECT seconds FROM trials UNION BY NAME SELECT 1.0 AS seconds", {}),
        ("SELECT seconds, max(seconds) OVER () AS most FROM trials", {"seconds": "seconds"}),
        ("SELECT COLUMNS('seco.*') FROM trials", {}),
        ("PIVOT trials ON source IN ('natural') USING avg(seconds) AS s GROUP BY seed", {}),
        ("SELECT avg(test_accuracy) FROM trials", {"avg(test_accuracy)": "percent"}),
        (
            "SELECT sum(test_accuracy) AS s, images::BOOLEAN AS some, images::VARCHAR AS text FROM trials GROUP BY ALL",
            {},
        ),
        (
            "WITH t AS (SELECT * EXCLUDE (seconds), seconds / 60 AS seconds FROM trials) SELECT seconds, epoch FROM t",
            {"epoch": "epochs"},
        ),
        ("SELECT x.seconds FROM (SELECT seed AS seconds FROM trials) x", {}),
        ('SELECT seconds / 60 AS "Seconds", epoch FROM trials', {"epoch": "epochs"}),
        (
            "SELECT * FROM (SELECT seed AS a, seconds AS b FROM trials) UNION ALL "
            "SELECT * FROM (SELECT seconds AS c, seed AS d FROM trials)",
            {},
        ),
        ("SELECT seconds FROM (VALUES (1)) v(seconds) SEMI JOIN trials ON true", {}),
        ("SELECT images FROM trials RIGHT JOIN (SELECT seed AS images FROM trials) b USING (images)", {}),
        ("SELECT images FROM trials FULL JOIN (SELECT seed AS images FROM trials) b USING (images)", {}),
        ("SELECT CASE WHEN true THEN seconds ELSE images END AS x FROM trials", {}),
        ("SELECT coalesce(seconds, epoch) AS x FROM trials", {}),
        ("SELECT unnest([seconds]) AS x FROM trials", {}),
        ("SELECT t.epoch FROM trials t, (SELECT seconds AS epoch FROM trials) u", {"epoch": "epochs"}),
        ("SELECT seconds FROM trials QUALIFY row_number() OVER () > 0", {"seconds": "seconds"}),
        (
            "WITH RECURSIVE r AS (SELECT 1.0 AS seconds UNION ALL SELECT seconds + 1 FROM r WHERE seconds < 3) FROM r",
            {},
        ),
        ("SELECT a.* FROM trials a JOIN failures f ON true WHERE false", None),
        ("SELECT " + "abs(" * 600 + "seconds" + ")" * 600 + " AS s FROM trials", {}),
        ("SELECT 1 AS one", {}),
        ("VALUES (1)", {}),
        ("SELECT epoch FROM trials WHERE seconds > (SELECT avg(seconds) FROM trials) OR true", {"epoch": "epochs"}),
    ],
)
def test_units(sql: str, expected: dict[str, str] | None, root: Path) -> None:
    found = analysis.query(root, sql)
    assert len(found.column_names) > 0
    assert units(found.schema) == (units(analysis.load(root).schema) if expected is None else expected)


@pytest.mark.parametrize("sql", ["SELECT * FROM evaluations", "FROM trials", "SELECT * EXCLUDE (seed) FROM trials"])
def test_a_whole_view_keeps_all(sql: str, root: Path) -> None:
    kept = units(analysis.query(root, sql).schema)
    assert kept == units(analysis.load(root).schema)
    assert kept["test_accuracy"] == "percent"


def test_they_stand_in_parquet(root: Path) -> None:
    answer = parquet(analysis.query(root, "SELECT seconds FROM trials"))
    assert units(pq.read_schema(io.BytesIO(answer))) == {"seconds": "seconds"}


def test_deltas_have_units(root: Path) -> None:
    found = units(analysis.deltas(root).schema)
    assert {found[name] for name in ("mean_delta", "ci_low", "ci_high_simultaneous")} == {"percentage points"}
    assert (found["images"], found["epoch"], found["n_pairs"]) == ("images", "epochs", "pairs")


# --- statements that are longer than they look ---

VIEWS = {"trials": schema("finetune")}


def test_each_table_of_a_join_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look at the left side of every join would double the work with each table."""
    looked: list[str] = []
    tables = units_module._tables

    def observed(source: Any, views: Any) -> Any:
        looked.append(source["type"])
        return tables(source, views)

    monkeypatch.setattr(units_module, "_tables", observed)
    joined = ", ".join(f"trials t{number}" for number in range(16))
    assert units_of(duckdb.connect(), f"SELECT t0.seconds FROM {joined}", VIEWS) == ["seconds"]
    assert looked.count("BASE_TABLE") == 16


@pytest.mark.parametrize(("levels", "expected"), [(3, ["seconds"]), (10, [])])
def test_columns_that_double_with_each_level_have_no_units(levels: int, expected: list[str]) -> None:
    doubled = (f"w{level} AS (SELECT * FROM w{level - 1} a, w{level - 1} b)" for level in range(1, levels))
    sql = f"WITH w0 AS (FROM trials), {', '.join(doubled)} SELECT seconds FROM trials"
    assert units_of(duckdb.connect(), sql, VIEWS) == expected


def test_units_are_found_within_the_time_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everything that takes as long as the statement says: in the thread that ``timeout`` ends."""
    threads: list[str] = []

    def observed(*given: Any) -> list[str]:
        threads.append(threading.current_thread().name)
        return units_of(*given)

    monkeypatch.setattr(query_module, "units_of", observed)
    assert units(analysis.query(root, "SELECT seconds FROM trials").schema) == {"seconds": "seconds"}
    assert threads == ["query"]
