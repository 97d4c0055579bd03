"""SQL over a results root: queries are answered, read only, and have no other effect."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import analysis
from analysis.evaluations.reading import load_failures
from analysis.output import formats
from analysis.sql import query as sql_module
from analysis.sql.query import select
from jobs.errors import Code, DamagedFile, InvalidRequest, StorageFailure
from jobs.results import Failure, LocalStore, compact, open_store, read_trials, record_failure
from tests.analysis.support import Build
from tests.support import refused


@pytest.fixture
def root(build: Build) -> Path:
    return build.root(
        build.trial(source, seed, {1: 20.0, 30: 50.0 + seed}) for source in ("natural", "robust") for seed in range(3)
    )


def test_views(root: Path) -> None:
    assert analysis.query(root, "SELECT count(*) AS n FROM evaluations").to_pylist() == [{"n": 12}]
    trials = analysis.query(root, "SELECT source, avg(test_accuracy) AS a FROM trials GROUP BY ALL ORDER BY ALL")
    assert trials.to_pylist() == [{"source": "natural", "a": 51.0}, {"source": "robust", "a": 51.0}]
    assert analysis.query(root, "SELECT * FROM failures").num_rows == 0


def test_failures(root: Path) -> None:
    said = {
        "trial_id": "finetune-x-00",
        "attempt": 1,
        "kind": "error",
        "error": "RuntimeError",
        "reason": "out of memory",
    }
    fields: dict[str, Any] = {**dict.fromkeys(Failure._fields, "words"), **said}
    failure = Failure(**fields)
    record_failure(LocalStore(root), failure, "log")
    (row,) = analysis.query(root, "SELECT trial_id, attempt, kind, error, reason FROM failures").to_pylist()
    assert row == said


def test_an_empty_root_has_empty_views(build: Build) -> None:
    empty = build.root([])
    assert analysis.query(empty, "SELECT count(*) AS n FROM trials").to_pylist() == [{"n": 0}]


def test_load_is_the_evaluations(root: Path) -> None:
    table = analysis.load(root)
    assert table.num_rows == 12
    assert table.schema.field("test_accuracy").metadata[b"unit"] == b"percent"


@pytest.mark.parametrize("sql", ["WITH t AS (SELECT 1 AS a) SELECT a FROM t", "FROM trials", "DESCRIBE evaluations"])
def test_other_ways_to_read(root: Path, sql: str) -> None:
    assert analysis.query(root, sql).num_rows > 0


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("SELEC 1", ['"SELEC"']),
        ("SELECT nothing FROM trials", ['"nothing"']),
        ("SELECT * FROM nowhere", ["nowhere", "evaluations, trials, failures"]),
        ("SELECT constraint FROM trials", ['"constraint"']),
        ("", ["one SELECT", "got 0"]),
        ("SELECT 1; SELECT 2", ["one SELECT", "got 2", "SELECT 1; SELECT 2"]),
    ],
)
def test_wrong_sql_is_explained(root: Path, sql: str, values: list[object]) -> None:
    with refused(Code.WRONG_QUERY, *values, kind=InvalidRequest, key="SQL"):
        analysis.query(root, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t AS SELECT 1",
        "DELETE FROM evaluations",
        "INSERT INTO evaluations SELECT * FROM evaluations",
        "COPY (SELECT 1) TO '{path}'",
        "ATTACH '{path}'",
        "EXPORT DATABASE '{path}'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA enable_profiling",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CALL pragma_version()",
    ],
)
def test_only_reading_is_allowed(root: Path, sql: str, tmp_path: Path) -> None:
    path = tmp_path / "written"
    before = sorted(root.rglob("*"))
    with refused(Code.WRONG_QUERY, "SELECT", kind=InvalidRequest, key="SQL"):
        analysis.query(root, sql.format(path=path))
    assert not path.exists()
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{path}')",
        "SELECT * FROM read_text('{path}')",
        "SELECT * FROM '{path}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_parquet('https://example.com/x.parquet')",
        "SELECT * FROM getenv('HOME')",
    ],
)
def test_nothing_outside_the_views_can_be_read(root: Path, sql: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with refused(Code.WRONG_QUERY, kind=InvalidRequest, key="SQL"):
        analysis.query(root, sql.format(path=secret, folder=tmp_path))


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("SELECT 1 AS a, 2 AS a, 3 AS b", ["a AS a_2"]),
        ("SELECT * FROM trials AS x JOIN trials AS y USING (seed)", ["trial_id"]),
    ],
)
def test_columns_of_one_name_are_refused(root: Path, sql: str, values: list[object]) -> None:
    with refused(Code.WRONG_QUERY, *values, kind=InvalidRequest):
        analysis.query(root, sql)


def test_an_answer_with_infinite_numbers_in_lists_is_json(root: Path) -> None:
    table = analysis.query(root, "SELECT [1/0] AS x, list(test_loss / 0) AS y FROM trials")
    assert json.loads(formats.text(table, "json"))[0]["x"] == [None]


def test_python_variables_are_not_views(root: Path) -> None:
    secret = analysis.load(root)
    with refused(Code.WRONG_QUERY, "secret", kind=InvalidRequest, key="SQL"):
        analysis.query(root, "SELECT * FROM secret")
    assert secret.num_rows


def test_another_schema_version_is_named(root: Path) -> None:
    import pyarrow.parquet as pq

    path = sorted(root.glob("trials/finetune/*/*.parquet"))[0]
    table = pq.read_table(path)
    other = table.rename_columns([*table.column_names[:-1], "newer"])
    pq.write_table(other.replace_schema_metadata(table.schema.metadata), path)
    with refused(Code.DAMAGED_RESULT, path.name, "unknown ['newer']", kind=DamagedFile):
        analysis.query(root, "SELECT count(*) FROM trials")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM trials ORDER BY ALL",
        "SELECT #2, #18 FROM evaluations ORDER BY ALL",
        "SELECT * EXCLUDE (host, packages) FROM evaluations ORDER BY ALL",
        "SELECT COLUMNS('test_.*') FROM trials ORDER BY ALL",
        "SELECT max(seed) AS m FROM (SELECT * FROM trials)",
        "SELECT evaluations FROM evaluations ORDER BY trial_id, epoch",
        "SELECT a.seed, b.seed AS other FROM trials a JOIN evaluations b USING (source, epoch) ORDER BY ALL",
        "SELECT count(*) AS n FROM (SELECT DISTINCT * FROM evaluations)",
        "SELECT source FROM trials WHERE test_accuracy > (SELECT avg(test_accuracy) FROM evaluations) ORDER BY ALL",
        "SELECT column_name, min, max, count, null_percentage FROM (SUMMARIZE evaluations)",  # others: approximate
        "DESCRIBE trials",
        "SELECT count(host) AS n FROM evaluations",
        "SELECT t.trial_id FROM trials t LEFT JOIN failures f USING (trial_id) WHERE f.error IS NULL ORDER BY ALL",
        "FROM (PIVOT (SELECT source, seed, test_accuracy FROM trials) ON source IN ('natural')"
        " USING first(test_accuracy)) ORDER BY ALL",
    ],
)
@pytest.mark.parametrize("compacted", ["nothing", "all", "half, of which one is gone"])
def test_what_is_read_and_how_changes_no_answer(build: Build, sql: str, compacted: str) -> None:
    """A query reads only the columns it needs, with text as dictionaries; the reference reads everything unchanged."""
    trials = [
        build.trial(source, seed, {1: 20.0, 30: 50.0 + seed}, host=None if seed else "a host")
        for seed in range(3)
        for source in ("natural", "robust")
    ]
    halfway = {"nothing": 0, "all": len(trials)}.get(compacted, len(trials) // 2)
    root = build.root(trials[:halfway])
    if halfway:
        compact(LocalStore(root), "finetune")
    build.root(trials[halfway:])
    if "gone" in compacted:
        next(root.glob(f"trials/*/*/{trials[0][0]['trial_id']}.parquet")).unlink()
    views = {"evaluations": read_trials(open_store(root), "finetune"), "failures": load_failures(open_store(root))}
    assert analysis.query(root, sql).equals(select(sql, views))


def test_columns_that_no_query_needs_are_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def reading(*given: Any, **how: Any) -> pa.Table:
        asked.append(given[2])
        return read_trials(*given, **how)

    monkeypatch.setattr("analysis.sql.query.read_trials", reading)
    analysis.query(root, "SELECT source, avg(test_accuracy) FROM trials GROUP BY ALL")
    assert [set(columns) for columns in asked] == [{"source", "test_accuracy", "epoch", "epochs"}]
    assert analysis.query(root, "SELECT 1 AS a").to_pylist() == [{"a": 1}]
    assert len(asked) == 1
    assert analysis.query(root, "SELECT count(epoch) AS n FROM Pretrain").to_pylist() == [{"n": 0}]
    assert len(asked) == 3


def test_queries_load_no_plotting_and_no_torch(root: Path) -> None:
    code = (
        f"import sys, analysis; analysis.query({str(root)!r}, 'SELECT 1'); "
        "print([m for m in ('torch', 'ray', 'matplotlib', 'statsmodels', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_pivot_names_its_columns(build: Build) -> None:
    root = build.root(build.arms([50.0, 52.0], [60.0, 64.0]))
    pivot = "PIVOT trials ON source {} USING avg(test_accuracy) GROUP BY dataset"
    with refused(Code.WRONG_QUERY, "PIVOT trials ON source IN (", kind=InvalidRequest, key="SQL"):
        analysis.query(root, pivot.format(""))
    found = analysis.query(root, pivot.format("IN ('natural', 'robust')")).to_pylist()
    assert found == [{"dataset": "digits", "natural": 51.0, "robust": 62.0}]


@pytest.mark.parametrize(
    "view", ["pretrain", '"PreTrain"', "query_table('pre' || 'train')", "query('FROM pre' || 'train')"]
)
def test_a_view_is_read_however_it_is_named(build: Build, view: str) -> None:
    found = analysis.query(build.pretrained(), f"SELECT trial_id, epoch FROM {view} ORDER BY epoch")
    assert found["epoch"].to_pylist() == [1, 2]


# --- queries that never end, or need more memory than available ---

ENDLESS = "SELECT count(*) FROM range(1e9::BIGINT) a, range(1e9::BIGINT) b"


@pytest.mark.parametrize(
    "sql",
    [
        ENDLESS,
        "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT max(i) FROM t",
        "SELECT sum(a.epoch) FROM evaluations a, range(1e9::BIGINT) b, range(1e9::BIGINT) c",
        f"SELECT * FROM evaluations WHERE epoch > ({ENDLESS})",
        "SELECT regexp_matches(repeat('a', 300000000), '(a*)*b') AS a",  # constant: computed during planning
    ],
)
def test_a_query_that_never_ends_is_ended_after_its_time(root: Path, sql: str) -> None:
    with refused(Code.WRONG_QUERY, "0.2 s", "--timeout", kind=InvalidRequest, key="--timeout"):
        analysis.query(root, sql, timeout=0.2)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "soon"])
def test_a_time_limit_is_above_0(timeout: Any, root: Path) -> None:
    with refused(Code.WRONG_VALUE, "--timeout", timeout, kind=InvalidRequest, key="--timeout"):
        analysis.query(root, "SELECT 1 AS a", timeout=timeout)


def test_a_query_in_time_is_answered(root: Path) -> None:
    assert analysis.query(root, "SELECT 1 AS a", timeout=60).to_pydict() == {"a": [1]}


def test_ctrl_c_ends_a_query_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupt arrives while DuckDB computes; no thread is left running."""
    threads = threading.active_count()
    computes = threading.Event()
    answer = sql_module._answer

    def observed(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
        computes.set()
        return answer(connection, sql)

    monkeypatch.setattr(sql_module, "_answer", observed)

    def interrupt() -> None:
        computes.wait()
        signal.raise_signal(signal.SIGINT)

    signalling = threading.Thread(target=interrupt)
    signalling.start()
    with pytest.raises(KeyboardInterrupt):
        analysis.query(root, ENDLESS)
    signalling.join()
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    "sql",
    ["SELECT range AS a FROM range(1e12::BIGINT)", "SELECT list(range) AS a FROM range(1e12::BIGINT)"],
)
def test_an_answer_larger_than_memory_is_one_error(
    root: Path, sql: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is written to disk either."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sql_module._SETTINGS, "memory_limit", "'200MB'")
    monkeypatch.setattr(sql_module, "_most_bytes", lambda: 50_000_000)
    with refused(Code.OUT_OF_MEMORY, "memory", kind=StorageFailure, key="SQL"):
        analysis.query(root, sql, timeout=60)
    assert not (tmp_path / ".tmp").exists()


def test_what_cannot_be_ended_is_left_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB cannot be interrupted while it computes one function of one value."""
    deaf, left = threading.Event(), threading.Event()

    def bounded(reader: pa.RecordBatchReader) -> pa.Table:
        deaf.wait()
        left.set()
        return reader.read_all()

    monkeypatch.setattr(sql_module, "_LEAVE_SECONDS", 0.2)
    monkeypatch.setattr(sql_module, "_bounded", bounded)
    with refused(Code.WRONG_QUERY, "0.1 s", kind=InvalidRequest, key="--timeout"):
        analysis.query(root, "SELECT 1 AS a", timeout=0.1)
    assert not left.is_set()
    deaf.set()
    assert left.wait(60)
