"""Reading results: which trials are done, and all their rows. No torch.

Trial files are the source of truth. Compacted rows (``index``) replace only files that exist: a trial whose file was
removed is not read from the index.
"""

import warnings
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import DamagedFile
from jobs.kind import kinds
from jobs.results.index import read_compacted, read_index
from jobs.results.layout import kind_at, trial_id_at, trial_key, trials_prefix
from jobs.results.limits import MemoryBudget
from jobs.results.parquet import decode_trial, encoded_schema, looks_whole
from jobs.results.problems import DamagedResult, Problem, torn
from jobs.results.schema import most_bytes, numbering, schema
from jobs.results.store import Store, require_present

_READERS = 16  # threads; reading small files is I/O-bound


class DamagedIndexWarning(UserWarning):
    """The compacted index cannot be used; results were read from the trial files instead, which is slower."""


def done(store: Store, kind: str) -> set[str]:
    """Return the ids of a kind's finished trials, from file names alone; files with other names are ignored."""
    ids = (trial_id_at(key, kind) for key in store.keys(trials_prefix(kind)))
    return {trial_id for trial_id in ids if trial_id is not None}


def damaged(store: Store, kind: str, trials: Iterable[str]) -> dict[str, str]:
    """Return those of the given trials whose result file is incomplete, each with a message; they do not count as done.

    Only the first and last bytes are checked, and only of files that the compacted index does not cover. ``verify``
    reads every file completely.
    """
    try:
        compacted = read_compacted(store, kind, ["trial_id"], encoded=True)
    except DamagedFile:
        compacted = None
    covered = set(compacted.table["trial_id"].unique().to_pylist()) if compacted else set()

    def look(trial_id: str) -> tuple[str, str] | None:
        key = trial_key(kind, trial_id)
        try:
            if looks_whole(store.read_within(key, most_bytes(kind))):
                return None
            return trial_id, str(torn(f"{store.uri}/{key}", "its first or last bytes are not those of one"))
        except FileNotFoundError:
            return None  # removed since it was listed
        except DamagedFile as error:
            return trial_id, str(error)

    with ThreadPoolExecutor(_READERS) as pool:
        return dict(found for found in pool.map(look, sorted(set(trials) - covered)) if found)


def all_done(store: Store) -> set[str]:
    """Return the ids of the finished trials of every kind."""
    return {trial_id for kind in kinds() for trial_id in done(store, kind)}


def unknown_kinds(store: Store) -> Counter[str]:
    """Count the finished trials of each unregistered kind: its package is not installed, or a newer DeltaSweep ran
    them.
    """
    known = kinds()
    of_all = map(kind_at, store.keys("trials"))
    return Counter(kind for kind in of_all if kind is not None and kind not in known)


def with_weights(store: Store) -> set[str]:
    """Return the ids of trials whose trained weights are in the root; weights are written before the trial is done."""
    ends = ".safetensors"
    return {key.removeprefix("weights/").removesuffix(ends) for key in store.keys("weights") if key.endswith(ends)}


def uncovered(store: Store, kind: str) -> int:
    """Count the finished trials that are not in the compacted index, with one listing and one small read.

    A damaged index covers nothing. Files that were removed since the last compaction make the count too small, until
    the next launch (``compaction.forget_removed``).
    """
    try:
        entry = read_index(store).get(kind)
    except DamagedFile:
        entry = None
    return max(len(done(store, kind)) - (entry.trials if entry else 0), 0)


def read_trials(
    store: Store, kind: str, columns: list[str] | None = None, *, encoded: bool = False, skip_damaged: bool = False
) -> pa.Table:
    """Return the rows of all finished trials of a kind, once each, in order of trial id and row number (the epoch, for
    training).

    Every trial that was committed before the call is included, regardless of concurrent commits, compactions, killed
    processes or deletions in ``compact/``. A damaged index is ignored with a ``DamagedIndexWarning``: nothing is lost,
    but reading is slower until the next ``compact``.

    Args:
        columns: the columns to return, in this order; None: all. Reading fewer is faster.
        encoded: whether text columns are dictionary-encoded, as in ``encoded_schema``; faster and smaller.
        skip_damaged: whether files that are no results are left out, for what decides only names and looks.

    Raises:
        DamagedFile: naming the first file that is not a result of the kind; no file is skipped.
    """
    wanted = schema(kind).names if columns is None else columns
    needed = list(dict.fromkeys(["trial_id", numbering(kind), *wanted]))
    # before the index: a trial whose file was removed is dropped from the index before it runs again
    files = trial_files(store, kind, skip_damaged=skip_damaged)
    compacted = _compacted(store, kind, needed, encoded)
    return with_files(store, kind, files, compacted, needed, encoded=encoded, skip_damaged=skip_damaged).select(wanted)


def with_files(
    store: Store,
    kind: str,
    files: Mapping[str, str],
    compacted: pa.Table | None,
    columns: list[str],
    *,
    encoded: bool = False,
    skip_damaged: bool = False,
) -> pa.Table:
    """Return the compacted rows (None: no rows) of trials whose files exist, and the rows of all other trial files.

    Args:
        files: ``trial_files``, listed before the index was read.
        columns: the columns of ``compacted``, including ``trial_id`` and the row number.
        encoded: whether text columns are dictionary-encoded, as in ``encoded_schema``, also in ``compacted``.
        skip_damaged: as in ``read_trials``.
    """
    whole = encoded_schema(kind) if encoded else schema(kind)
    table = whole.empty_table().select(columns) if compacted is None else compacted
    # in Arrow: with sets of Python strings this took a quarter of a query over 14,400 trials
    covered, listed = table["trial_id"].unique().cast(pa.string()), pa.array(list(files), pa.string())
    gone, new = _without(covered, listed), _without(listed, covered).to_pylist()
    if len(gone):
        table = table.filter(pc.invert(pc.is_in(table["trial_id"], gone)))
    if not new:
        return table
    fresh = read_files(
        store, kind, {trial: files[trial] for trial in new}, columns, encoded=encoded, skip_damaged=skip_damaged
    )
    merged = _merged(table, fresh.cast(table.schema))
    # unify to one dictionary per column: otherwise each slice keeps its own whole dictionary
    return merged.unify_dictionaries().combine_chunks() if encoded else merged


def trial_files(store: Store, kind: str, *, skip_damaged: bool = False) -> dict[str, str]:
    """Return the key of every finished trial of a kind by trial id, with one listing.

    Args:
        skip_damaged: whether files with other names are left out.

    Raises:
        DamagedResult: naming the first file that does not have the name of a result.
    """
    files = {}
    prefix = trials_prefix(kind)
    for key in store.survey(prefix).keys if skip_damaged else store.keys(prefix):
        trial_id = trial_id_at(key, kind)
        if trial_id is not None:
            files[trial_id] = key
        elif not skip_damaged:
            raise foreign(store, key)
    return files


def foreign(store: Store, key: str) -> DamagedResult:
    return DamagedResult(
        Problem.FOREIGN,
        f"expected only results under {store.uri}/trials; {store.uri}/{key} does not have the path of one. "
        "Fix: move it away",
        file=f"{store.uri}/{key}",
    )


def read_files(
    store: Store,
    kind: str,
    files: Mapping[str, str],
    columns: list[str] | None = None,
    *,
    encoded: bool = False,
    skip_damaged: bool = False,
) -> pa.Table:
    """Return the rows of the given trial files (id to key), in order of trial id and row number.

    Args:
        columns: the columns to return, in this order; None: all.
        encoded, skip_damaged: as in ``read_trials``.

    Raises:
        StorageFailure: if together they do not fit into this machine's memory.
    """
    whole = encoded_schema(kind) if encoded else schema(kind)
    nothing = whole.empty_table().select(whole.names if columns is None else columns)
    budget = MemoryBudget(store.uri)

    def read(trial_id: str) -> pa.Table:
        key = files[trial_id]
        try:
            with budget.turn() as turn:
                data = turn.read(partial(require_present, store, key, "a result that was listed"), most_bytes(kind))
                path = f"{store.uri}/{key}"
                table = decode_trial(data, kind, trial_id, path, columns, encoded=encoded, turn=turn).table
                budget.keep(table.nbytes)
                return table
        except DamagedFile:
            if skip_damaged:
                return nothing
            raise

    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(read, sorted(files)))
    return pa.concat_tables([nothing, *tables]).unify_dictionaries().combine_chunks()


def _without(left: pa.Array, right: pa.Array) -> pa.Array:
    """Return the values of ``left`` that are not in ``right``."""
    return left.filter(pc.invert(pc.is_in(left, right)))


def _compacted(store: Store, kind: str, columns: list[str], encoded: bool) -> pa.Table | None:
    try:
        compacted = read_compacted(store, kind, columns, encoded=encoded)
    except DamagedFile as error:
        warnings.warn(str(error), DamagedIndexWarning, stacklevel=3)
        return None
    return compacted and compacted.table


def _merged(left: pa.Table, right: pa.Table) -> pa.Table:
    """Merge two ordered tables without common trials into one ordered table.

    The rows of the second are inserted between slices of the first, without copying; sorting would take a second for
    14,400 trials.
    """
    trials, starts = _runs(left)
    fresh, rows = _runs(right)
    pieces, at = [], 0
    for trial, (start, end) in zip(fresh, pairwise(rows), strict=True):
        until = starts[bisect(trials, trial)]
        pieces += [left.slice(at, until - at), right.slice(start, end - start)]
        at = until
    pieces.append(left.slice(at))
    return pa.concat_tables([piece for piece in pieces if len(piece)] or [left])


def _runs(table: pa.Table) -> tuple[list[str], list[int]]:
    """Return the trials of a table in order, and the row where each starts, followed by the table's length."""
    counts = pc.value_counts(table["trial_id"])
    lengths = counts.field("counts").to_pylist()
    return counts.field("values").to_pylist(), [0, *accumulate(lengths)]
