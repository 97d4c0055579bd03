"""The one reader of results: which trials are done, and all their rows. No torch."""

import io
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import DamagedFile
from jobs.results.layout import trial_id_of, trials_prefix
from jobs.results.schema import schema
from jobs.results.store import Store

_READERS = 16  # threads; reading small files waits more than it computes


def done(store: Store, kind: str) -> set[str]:
    """The ids of the finished trials of a kind, by their file names alone."""
    return {trial_id_of(key) for key in store.keys(trials_prefix(kind))}


def read_trials(store: Store, kind: str) -> pa.Table:
    """The rows of all finished trials of a kind, in order of trial id and epoch.

    Raises:
        DamagedFile: naming the first file that is not a result of the kind; none is skipped.
    """
    keys = sorted(store.keys(trials_prefix(kind)), key=trial_id_of)
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda key: _read(store, kind, key), keys))
    return pa.concat_tables(tables) if tables else schema(kind).empty_table()


def decode(data: bytes, kind: str, path: str) -> pa.Table:
    """Bytes of a Parquet file to a table with exactly the columns of the kind's schema.

    Raises:
        DamagedFile: with ``path``, when it is not Parquet or has other columns.
    """
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(
            f"{path} is not a readable Parquet file ({error}); move it away and resume: its trial runs again"
        ) from error
    expected = schema(kind)
    missing = [name for name in expected.names if name not in table.column_names]
    unknown = [name for name in table.column_names if name not in expected.names]
    if missing or unknown:
        raise DamagedFile(
            f"{path} has not the columns of a {kind} result: missing {missing or 'none'}, unknown "
            f"{unknown or 'none'}; it was written by another version of DeltaSweep or is not a result at all. "
            "Read it with that version, or move it away and resume: its trial runs again"
        )
    return table.select(expected.names).cast(expected)


def _read(store: Store, kind: str, key: str) -> pa.Table:
    path = f"{store.uri}/{key}"
    table = decode(store.read(key), kind, path)
    found = set(table["trial_id"].to_pylist())
    if found != {trial_id_of(key)}:
        raise DamagedFile(f"{path} holds the trial {sorted(found)}, not the one its name says; move it away and resume")
    return table.sort_by("epoch")
