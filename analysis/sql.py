"""SQL over a results root, by DuckDB: it reads, and can do nothing else.

No file, network, extension or setting can be reached from a query; object stores are read by
``jobs.results`` before DuckDB sees anything.
"""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import pyarrow as pa
from duckdb import StatementType

from analysis.evaluations import load_failures, open_results
from jobs.errors import InvalidRequest
from jobs.results import read_trials
from jobs.results.schema import kinds

_SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}
_TRIALS = "CREATE VIEW trials AS SELECT * FROM evaluations WHERE epoch = epochs"
"""The last epoch of each trial: a trial is always evaluated after its last epoch."""


def query(root: str | Path, sql: str) -> pa.Table:
    """The answer of one SELECT over the views ``evaluations``, ``trials``, ``failures``.

    ``evaluations`` has one row per fine-tuning trial and evaluated epoch, ``trials`` the last epoch of each,
    ``failures`` one row per failed attempt; every other kind of trial has a view of its name.

    Raises:
        InvalidRequest: for SQL that is wrong, does more than read, or is not exactly one statement.
        DamagedFile: naming a file that is not what its name promises.
    """
    store = open_results(root)
    views = {"evaluations" if kind == "finetune" else kind: read_trials(store, kind) for kind in kinds()}
    return select(sql, {**views, "failures": load_failures(store)})


def select(sql: str, views: Mapping[str, object]) -> pa.Table:
    """The answer of one SELECT over named Arrow tables or datasets, ``evaluations`` among them."""
    connection = duckdb.connect(":memory:")
    try:
        for name, table in views.items():
            connection.register(name, table)
        connection.execute(_TRIALS)
        for setting, value in _SETTINGS.items():
            connection.execute(f"SET {setting} = {value}")
        _require_one_select(connection, sql)
        return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        raise InvalidRequest(_explain(sql, error)) from error
    finally:
        connection.close()


def _require_one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InvalidRequest(f"a query is exactly one SELECT statement; given are {len(statements)}: {sql!r}")
    kind = statements[0].type
    if kind != StatementType.SELECT:
        raise InvalidRequest(
            f"a query only reads: one SELECT statement; given is {kind.name}. Results are changed by no query; "
            "to keep an answer, use --format csv, json or parquet"
        )


def _explain(sql: str, error: duckdb.Error) -> str:
    message = f"the query cannot be answered: {str(error).strip()}"
    if isinstance(error, duckdb.ParserException) and "constraint" in sql.lower():
        message += '\nConstraint is a word of SQL itself: write the column as "constraint", with the quotes'
    if isinstance(error, duckdb.PermissionException):
        message += "\nA query sees the results root's views and nothing else: no files, no network, no settings"
    if isinstance(error, duckdb.CatalogException) and "Table with name" in str(error):
        message += f"\nThe views are: evaluations, trials, failures{''.join(', ' + kind for kind in kinds()[1:])}"
    return message
