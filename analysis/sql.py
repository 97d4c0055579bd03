"""SQL over a results root, by DuckDB: it reads, and can do nothing else.

No file, network, extension or setting can be reached from a query; object stores are read by
``jobs.results`` before DuckDB sees anything. A query has half of this machine's memory and no disk, may be given a
time, and ends at once when it is interrupted.
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

from analysis.evaluations import FAILURES, load_failures, open_results
from analysis.units import units_of, with_units
from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.results import Store, read_trials, schema
from jobs.results.schema import kinds, view

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
"""Between two looks for signals, for the time, and for the end of a query that was interrupted."""
_LEAVE_SECONDS = 2.0
"""How long an interrupted query may go on: DuckDB hears nothing while it computes one function of one value."""
_TRIALS = "CREATE VIEW trials AS SELECT * FROM evaluations WHERE epoch = epochs"
"""The last epoch of each trial: a trial is always evaluated after its last epoch."""


def query(root: str | Path, sql: str, *, timeout: float | None = None) -> pa.Table:
    """The answer of one SELECT over the views ``evaluations``, ``trials``, ``failures`` and ``pretrain``.

    ``evaluations`` has one row per fine-tuning trial and evaluated epoch, ``trials`` the last epoch of each,
    ``failures`` one row per failed attempt; every other kind of trial has a view of its name. Only the columns that the
    query needs are read. Fields of the answer say their unit in their metadata, where it is certain (``units``).

    Args:
        timeout: seconds that it may take to answer, above 0; reading the root is not counted. By default any time.

    Raises:
        InvalidRequest: for SQL that is wrong, does more than read, is not exactly one statement, or takes more time
            than it was given.
        StorageFailure: when it needs more memory than there is.
        KeyboardInterrupt: as soon as the process is interrupted.
        DamagedFile: naming a file that is not what its name promises.
    """
    store = open_results(root)
    if not sql.isprintable() and any("\ud800" <= character <= "\udfff" for character in sql):
        raise InvalidRequest(Code.WRONG_QUERY, f"a query is text in UTF-8; got {sql!r}", key="SQL")
    failures = {"failures": load_failures(store)}
    names = {kind: view(kind) for kind in kinds()}
    views = {name: schema(kind).empty_table() for kind, name in names.items()} | failures
    with _answering(sql, views, timeout) as asked:
        connection = asked.connection
        _require_distinct_names(asked.run(lambda: connection.sql(sql).columns))
        needed = asked.run(lambda: _columns(connection, sql))
        # the plan does not say whose columns they are; a view that the text does not name is not asked, unless the
        # text puts a name together: query_table('pre' || 'train')
        named = sql.lower()
        names = {kind: name for kind, name in names.items() if kind == "finetune" or name in named or "query" in named}
        for kind, name in names.items():
            connection.register(name, _read(store, kind, needed))
        if not asked.run(lambda: _columns(connection, sql)) <= needed:
            # planned otherwise over real rows than over none: never seen, but a column that was not read would be null
            for kind, name in names.items():
                connection.register(name, read_trials(store, kind, encoded=True))
        known = {view(kind): schema(kind) for kind in kinds()} | {"failures": FAILURES}
        known["trials"] = known["evaluations"]
        answer = asked.run(lambda: _answer(connection, sql))
        said = units_of(connection, sql, known)
        return with_units(answer, said) if len(said) == answer.num_columns else answer


def select(sql: str, views: Mapping[str, object]) -> pa.Table:
    """The answer of one SELECT over named Arrow tables or datasets, ``evaluations`` among them."""
    with _answering(sql, views, None) as asked:
        return asked.run(lambda: _answer(asked.connection, sql))


def _answer(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    return _bounded(connection.sql(sql).to_arrow_reader())


def _bounded(reader: pa.RecordBatchReader) -> pa.Table:
    """All of an answer, piece by piece: DuckDB's own bound of memory does not count what it has handed over.

    Raises:
        StorageFailure: when it is larger than half of this machine's memory.
    """
    batches, size, most = [], 0, _most_bytes()
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > most:
            raise _out_of_memory("its answer alone")
    return pa.Table.from_batches(batches, reader.schema)


def _most_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class _Asked:
    """A query and the time that it has: each step of it runs in a thread of its own, so that signals are heard at once.

    DuckDB's own thread looks at none, and it computes what is constant while it only plans.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, timeout: float | None) -> None:
        self.connection = connection
        self.left_behind = False
        """Whether a step goes on that could not be ended: the connection is its own."""
        self._timeout = timeout
        self._left = threading.TIMEOUT_MAX if timeout is None else timeout

    def run(self, step: Callable[[], T]) -> T:
        """What a step returns.

        Raises:
            InvalidRequest: when the steps together take longer than their time.
            duckdb.Error: as DuckDB has it.
        """
        answers: list[T] = []
        errors: list[BaseException] = []
        ended = threading.Event()  # not Thread.join, which a signal may leave believing that the thread has ended

        def run() -> None:
            try:
                answers.append(step())
            except BaseException as error:  # noqa: BLE001  # whatever it is, it is raised below
                errors.append(error)
            finally:
                ended.set()

        threading.Thread(target=run, name="query", daemon=True).start()
        begun = time.monotonic()
        try:
            # some at a time: a signal that another thread got wakes none that waits
            while not ended.wait(_LOOK_SECONDS) and time.monotonic() - begun < self._left:
                pass
            timed_out = not ended.is_set()
        finally:
            self._left -= time.monotonic() - begun
            until = time.monotonic() + _LEAVE_SECONDS
            while not ended.is_set() and time.monotonic() < until:
                self.connection.interrupt()  # again and again: one between two steps of a query is forgotten
                ended.wait(_LOOK_SECONDS)
            self.left_behind = not ended.is_set()
        if timed_out:
            raise InvalidRequest(
                Code.WRONG_QUERY,
                f"the query has not answered within {self._timeout:g} s, and was ended; ask for less, or give it more "
                "--timeout",
                key="--timeout",
            )
        if errors:
            raise errors[0]
        return answers[0]


@contextmanager
def _answering(sql: str, views: Mapping[str, object], timeout: float | None) -> Iterator[_Asked]:
    """A locked connection that sees ``views``, for one SELECT; DuckDB's errors are explained."""
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
        raise InvalidRequest(Code.WRONG_QUERY, _explain(sql, error), key="SQL") from error
    finally:
        if not asked.left_behind:
            connection.close()


def _out_of_memory(why: str) -> StorageFailure:
    return StorageFailure(
        Code.OUT_OF_MEMORY,
        f"a query has half of this machine's memory, {_most_bytes():,} bytes; this one needs more ({why}). Fix: "
        "aggregate, or select fewer columns or rows; or ask where there is more memory",
        key="SQL",
    )


def _columns(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """The columns, of whichever view, that DuckDB's plan of a query scans."""
    plans = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchall()
    scans = [scan for _, plan in plans for node in json.loads(plan) for scan in _scans(node)]
    return {name for scan in scans for name in ([scan] if isinstance(scan, str) else scan)}


def _scans(node: dict[str, Any]) -> Iterator[str | list[str]]:
    """The projections of every Arrow scan at or below a node of a plan; a lone column is not in a list."""
    if "ARROW_SCAN" in node["name"]:
        yield node["extra_info"]["Projections"]
    for child in node["children"]:
        yield from _scans(child)


def _read(store: Store, kind: str, needed: set[str]) -> pa.Table:
    """All rows of a kind, the columns that are not needed being null; nothing is read when none is needed."""
    whole = schema(kind)
    wanted = [name for name in whole.names if name in needed]
    if not wanted:
        return whole.empty_table()
    found = read_trials(store, kind, wanted, encoded=True)
    nothing = {
        kind: pa.nulls(len(found), kind) for kind in set(whole.types)
    }  # shared: a column of its own costs memory
    columns = [found[field.name] if field.name in wanted else nothing[field.type] for field in whole]
    return pa.Table.from_arrays(columns, names=whole.names)


def _require_one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"a query is exactly one SELECT statement; given are {len(statements)}: {sql!r}",
            key="SQL",
        )
    kind = statements[0].type
    if kind == StatementType.MULTI:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            "a PIVOT whose columns follow from the data is several statements, of which a query has one; name the "
            "columns: PIVOT trials ON source IN ('natural', 'l2_eps3') USING avg(test_accuracy) GROUP BY dataset",
            key="SQL",
        )
    if kind != StatementType.SELECT:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"a query only reads: one SELECT statement; given is {kind.name}. Results are changed by no query; "
            "to keep an answer, use --format csv, json or parquet",
            key="SQL",
        )


def _require_distinct_names(names: list[str]) -> None:
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"each column of an answer has a name of its own; several are called {', '.join(twice)}. Name them with "
            f"AS, such as {twice[0]} AS {twice[0]}_2",
            key=twice[0],
        )


def _explain(sql: str, error: duckdb.Error) -> str:
    message = f"the query cannot be answered: {str(error).strip()}"
    if isinstance(error, duckdb.ParserException) and "constraint" in sql.lower():
        message += '\nConstraint is a word of SQL itself: write the column as "constraint", with the quotes'
    if isinstance(error, duckdb.PermissionException):
        message += "\nA query sees the results root's views and nothing else: no files, no network, no settings"
    if isinstance(error, duckdb.CatalogException) and "Table with name" in str(error):
        message += f"\nThe views are: evaluations, trials, failures{''.join(', ' + view(kind) for kind in kinds()[1:])}"
    return message
