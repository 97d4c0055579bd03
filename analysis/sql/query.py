"""Read-only SQL queries over a results root, run by DuckDB.

A query cannot access files, the network, extensions or settings; ``jobs.results`` reads object stores before DuckDB
sees any data. A query may use half of this machine's memory and no disk, can be given a time limit, and ends
within seconds when it is interrupted.
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
from duckdb import StatementType

from analysis.evaluations.reading import FAILURES, load_failures, open_results
from analysis.sql.units import units_of, with_units
from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.kind import GRID_KIND, INSTALL_IT, NOT_INSTALLED, kinds
from jobs.results import Store, read_trials, schema, unknown_kinds
from jobs.results.schema import view
from jobs.system.given import number

T = TypeVar("T")

_SETTINGS = {
    "memory_limit": "'50%'",
    "max_temp_directory_size": "'0B'",
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}
_LOOK_SECONDS = 0.1
"""Interval between checks for signals, for the time limit, and for the end of an interrupted query."""
_LEAVE_SECONDS = 2.0
"""Longest wait for an interrupted query: DuckDB does not notice while it evaluates one function on one value."""
_TRIALS = "CREATE VIEW trials AS SELECT * FROM evaluations WHERE epoch = epochs"
"""The last epoch of each trial; a trial is always evaluated after its last epoch."""


def query(root: str | Path, sql: str, *, timeout: float | None = None) -> pa.Table:
    """Return the result of one SELECT over the views ``evaluations``, ``trials``, ``failures`` and ``pretrain``.

    ``evaluations`` has one row per fine-tuning trial and evaluated epoch, ``trials`` the last epoch of each,
    ``failures`` one row per failed attempt; every other kind of trial has a view of its name. Only the columns that the
    query needs are read. The metadata of a result's field gives its unit where it is certain (``units``).

    Args:
        timeout: time limit in seconds, above 0, not counting the time to read the root. Unlimited by default.

    Raises:
        InvalidRequest: for SQL that is invalid, does more than read, is not exactly one statement, or exceeds the time
            limit; for a limit that is not above 0.
        StorageFailure: when it needs more than half of this machine's memory.
        KeyboardInterrupt: within seconds after the process is interrupted.
        DamagedFile: for a file that is not a valid result.
    """
    timeout = number(timeout, "--timeout")
    _require_possible(timeout)
    store = open_results(root)
    if not sql.isprintable() and any("\ud800" <= character <= "\udfff" for character in sql):
        raise InvalidRequest(Code.WRONG_QUERY, f"expected a query in valid UTF-8; got {sql!r}", key="SQL")
    failures = {"failures": load_failures(store)}
    names = {kind: view(kind) for kind in kinds()}
    views = {name: schema(kind).empty_table() for kind, name in names.items()} | failures
    with _answering(sql, views, timeout, lambda: _without_view(store)) as asked:
        connection = asked.connection
        _require_distinct_names(asked.run(lambda: connection.sql(sql).columns))
        needed = asked.run(lambda: _columns(connection, sql))
        # the plan does not tell which view a column belongs to; a view that the text does not name is not read, unless
        # the text may assemble a name: query_table('pre' || 'train')
        named = sql.lower()
        names = {kind: name for kind, name in names.items() if kind == GRID_KIND or name in named or "query" in named}
        for kind, name in names.items():
            connection.register(name, _read(store, kind, needed))
        if not asked.run(lambda: _columns(connection, sql)) <= needed:
            # the plan over real rows needs more columns than the one over empty views (never observed): read all
            for kind, name in names.items():
                connection.register(name, read_trials(store, kind, encoded=True))
        known = {view(kind): schema(kind) for kind in kinds()} | {"failures": FAILURES}
        known["trials"] = known["evaluations"]
        answer = asked.run(lambda: _answer(connection, sql))
        units = asked.run(lambda: units_of(connection, sql, known))
        return with_units(answer, units) if len(units) == answer.num_columns else answer


def _require_possible(timeout: float | None) -> None:
    if timeout is not None and not 0 < timeout < threading.TIMEOUT_MAX:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected --timeout above 0 seconds; got {timeout:g}. Fix: omit it to run queries without a time limit",
            key="--timeout",
        )


def select(sql: str, views: Mapping[str, object]) -> pa.Table:
    """Return the result of one SELECT over named Arrow tables or datasets, which must include ``evaluations``."""
    with _answering(sql, views, None) as asked:
        return asked.run(lambda: _answer(asked.connection, sql))


def _answer(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    return _bounded(connection.sql(sql).to_arrow_reader())


def _bounded(reader: pa.RecordBatchReader) -> pa.Table:
    """Collect a result batch by batch: DuckDB's memory limit does not count what it has handed over.

    Raises:
        StorageFailure: when the result is larger than half of this machine's memory.
    """
    batches, size, most = [], 0, _most_bytes()
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > most:
            raise _out_of_memory("its result alone")
    return pa.Table.from_batches(batches, reader.schema)


def _most_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class _Asked:
    """A query with its time limit. Each step runs in its own thread, so that signals are handled immediately.

    A thread inside DuckDB handles no signals, and DuckDB evaluates constant expressions while it plans.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, timeout: float | None) -> None:
        self.connection = connection
        self.left_behind = False
        """Whether a step that could not be ended is still running; it keeps the connection."""
        self._timeout = timeout
        self._left = threading.TIMEOUT_MAX if timeout is None else timeout

    def run(self, step: Callable[[], T]) -> T:
        """Run one step and return its result.

        Raises:
            InvalidRequest: when the steps together exceed the time limit.
            duckdb.Error: as raised by DuckDB.
        """
        answers: list[T] = []
        errors: list[BaseException] = []
        ended = threading.Event()  # not Thread.join: after a signal it may wrongly report that the thread has ended

        def run() -> None:
            try:
                answers.append(step())
            except BaseException as error:  # noqa: BLE001  # raised again below
                errors.append(error)
            finally:
                ended.set()

        thread = threading.Thread(target=run, name="query", daemon=True)
        begun = time.monotonic()
        try:
            thread.start()  # inside the try: a signal may arrive during the start, when the thread is running already
            # in short intervals: a signal handled by another thread does not wake a waiting one
            while not ended.wait(_LOOK_SECONDS) and time.monotonic() - begun < self._left:
                pass
            timed_out = not ended.is_set()
        finally:
            self._left -= time.monotonic() - begun
            until = time.monotonic() + _LEAVE_SECONDS
            while not ended.is_set() and time.monotonic() < until:
                self.connection.interrupt()  # repeatedly: an interrupt between two steps of a query is lost
                ended.wait(_LOOK_SECONDS)
            self.left_behind = not ended.is_set()
        if timed_out:
            raise InvalidRequest(
                Code.WRONG_QUERY,
                f"the query was ended because it exceeded the time limit of {self._timeout:g} s. Fix: select less, or "
                "raise --timeout",
                key="--timeout",
            )
        if errors:
            raise errors[0]
        return answers[0]


@contextmanager
def _answering(
    sql: str, views: Mapping[str, object], timeout: float | None, without_view: Callable[[], str] = str
) -> Iterator[_Asked]:
    """Open a locked connection to ``views`` for one SELECT; DuckDB's errors are explained.

    Args:
        without_view: describes other results that exist; called where a view is unknown.
    """
    asked = _Asked(duckdb.connect(":memory:"), timeout)
    connection = asked.connection
    try:
        for name, table in views.items():
            connection.register(name, table)
        connection.execute("; ".join([_TRIALS, *(f"SET {setting} = {value}" for setting, value in _SETTINGS.items())]))
        _require_one_select(connection, sql)
        yield asked
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise _out_of_memory(" ".join(str(error).split())) from error
    except duckdb.Error as error:
        raise InvalidRequest(Code.WRONG_QUERY, _explain(sql, error, without_view), key="SQL") from error
    finally:
        if not asked.left_behind:
            connection.close()


def _out_of_memory(why: str) -> StorageFailure:
    return StorageFailure(
        Code.OUT_OF_MEMORY,
        f"a query may use half of this machine's memory, {_most_bytes():,} bytes; this one needs more ({why}). Fix: "
        "aggregate, select fewer columns or rows, or use a machine with more memory",
        key="SQL",
    )


def _columns(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """Return the columns, of any view, that DuckDB's plan of a query scans."""
    plans = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchall()
    scans = [scan for _, plan in plans for node in json.loads(plan) for scan in _scans(node)]
    return {name for scan in scans for name in ([scan] if isinstance(scan, str) else scan)}


def _scans(node: dict[str, Any]) -> Iterator[str | list[str]]:
    """Yield the projections of every Arrow scan at or below a node of a plan; a single column is not in a list."""
    if "ARROW_SCAN" in node["name"]:
        yield node["extra_info"]["Projections"]
    for child in node["children"]:
        yield from _scans(child)


def _read(store: Store, kind: str, needed: set[str]) -> pa.Table:
    """Return all rows of a kind, with null in columns that are not needed; read nothing if none is needed."""
    whole = schema(kind)
    wanted = [name for name in whole.names if name in needed]
    if not wanted:
        return whole.empty_table()
    rows = read_trials(store, kind, wanted, encoded=True)
    nothing = {kind: pa.nulls(len(rows), kind) for kind in set(whole.types)}  # shared: separate columns cost memory
    columns = [rows[field.name] if field.name in wanted else nothing[field.type] for field in whole]
    return pa.Table.from_arrays(columns, names=whole.names)


def _require_one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"expected exactly one SELECT statement; got {len(statements)} statements: {sql!r}",
            key="SQL",
        )
    kind = statements[0].type
    if kind == StatementType.MULTI:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            "a PIVOT whose columns depend on the data is several statements; a query has one. Fix: name the "
            "columns: PIVOT trials ON source IN ('natural', 'l2_eps3') USING avg(test_accuracy) GROUP BY dataset, "
            "images, epochs, recipe",
            key="SQL",
        )
    if kind != StatementType.SELECT:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"expected one SELECT statement, since a query only reads; got {kind.name}. Queries do not change results; "
            "to save their output, use --format csv, json or parquet",
            key="SQL",
        )


def _require_distinct_names(names: list[str]) -> None:
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"expected unique column names in the result; repeated: {', '.join(twice)}. Fix: rename them with "
            f"AS, such as {twice[0]} AS {twice[0]}_2",
            key=twice[0],
        )


def _without_view(store: Store) -> str:
    """Describe results that cannot be queried, and why."""
    unknown = unknown_kinds(store)
    if not unknown:
        return ""
    kinds_in_words = ", ".join(f"{kind} ({trials:,} results)" for kind, trials in sorted(unknown.items()))
    return f"\n{store.uri} has results without a view, of a kind {NOT_INSTALLED}: {kinds_in_words}. {INSTALL_IT}"


def _explain(sql: str, error: duckdb.Error, without_view: Callable[[], str]) -> str:
    message = f"the query failed: {str(error).strip()}"
    if isinstance(error, duckdb.ParserException) and "constraint" in sql.lower():
        message += '\nCONSTRAINT is an SQL keyword: write the column as "constraint", with the quotes'
    if isinstance(error, duckdb.PermissionException):
        message += "\nA query can only access the views of the results root: no files, no network, no settings"
    if isinstance(error, duckdb.CatalogException) and "Table with name" in str(error):
        message += (
            f"\nThe views are: evaluations, trials, failures{''.join(', ' + view(kind) for kind in [*kinds()][1:])}"
        )
        message += without_view()
    return message
