"""The one reader of results: which trials are done, and all their rows. No torch.

The trial files are the truth. Compacted rows (``index``) stand in for files that are there, never for more:
a trial whose file was taken away is not read from the index.
"""

import warnings
from bisect import bisect
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import DamagedFile
from jobs.results.index import read_compacted, read_index
from jobs.results.layout import trial_id_at, trial_key, trials_prefix
from jobs.results.parquet import decode_trial, encoded_schema, looks_whole
from jobs.results.problems import DamagedResult, Problem, torn
from jobs.results.schema import kinds, most_bytes, numbering, schema
from jobs.results.store import Store, require_present

_READERS = 16  # threads; reading small files waits more than it computes


class DamagedIndexWarning(UserWarning):
    """The compacted index cannot be used; results were read, slowly, from the trial files instead."""


def done(store: Store, kind: str) -> set[str]:
    """The ids of the finished trials of a kind, by their file names alone; files of other names count for nothing."""
    ids = (trial_id_at(key, kind) for key in store.keys(trials_prefix(kind)))
    return {trial_id for trial_id in ids if trial_id is not None}


def damaged(store: Store, kind: str, trials: Iterable[str]) -> dict[str, str]:
    """Of these finished trials those whose result is no whole file, each with what to do: they are not done.

    Looked at are the first and last bytes of files that the compacted index lacks: it holds the rows of the others.
    ``verify`` reads all of every file.
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
            return trial_id, str(torn(f"{store.uri}/{key}", "it does not begin and end as one"))
        except FileNotFoundError:
            return None  # moved away since it was listed
        except DamagedFile as error:
            return trial_id, str(error)

    with ThreadPoolExecutor(_READERS) as pool:
        return dict(found for found in pool.map(look, sorted(set(trials) - covered)) if found)


def all_done(store: Store) -> set[str]:
    """The ids of the finished trials of every kind."""
    return {trial_id for kind in kinds() for trial_id in done(store, kind)}


def with_weights(store: Store) -> set[str]:
    """The ids of trials whose trained weights stand in the root; they are put there before the trial is done."""
    ends = ".safetensors"
    return {key.removeprefix("weights/").removesuffix(ends) for key in store.keys("weights") if key.endswith(ends)}


def uncovered(store: Store, kind: str) -> int:
    """How many finished trials the compacted index lacks: one listing and one small read.

    A damaged index covers nothing. The count is of files, so it is too small by those that were taken away by
    hand since the last compaction.
    """
    try:
        entry = read_index(store).get(kind)
    except DamagedFile:
        entry = None
    return max(len(done(store, kind)) - (entry.trials if entry else 0), 0)


def read_trials(store: Store, kind: str, columns: list[str] | None = None, *, encoded: bool = False) -> pa.Table:
    """The rows of all finished trials of a kind, in order of trial id and number (an epoch, for training), each once.

    Every trial that was committed before the call is in, whatever is committed, compacted, deleted from
    ``compact/`` or killed meanwhile. A damaged index is passed over with a ``DamagedIndexWarning``: nothing is lost,
    it is only slow until the next ``compact``.

    Args:
        columns: the columns to return, in this order; None: all. Fewer are read faster.
        encoded: text as ``encoded_schema`` has it: quicker and smaller, for what can work on dictionaries.

    Raises:
        DamagedFile: naming the first file that is not a result of the kind; none is skipped.
    """
    wanted = schema(kind).names if columns is None else columns
    needed = list(dict.fromkeys(["trial_id", numbering(kind), *wanted]))
    return with_files(store, kind, _compacted(store, kind, needed, encoded), needed, encoded=encoded).select(wanted)


def with_files(
    store: Store, kind: str, compacted: pa.Table | None, columns: list[str], *, encoded: bool = False
) -> pa.Table:
    """These compacted rows (None: none) as far as their trials' files are there, and the rows of all other files.

    Args:
        columns: those that ``compacted`` has, ``trial_id`` and the rows' number among them.
        encoded: whether text is as ``encoded_schema`` has it, in ``compacted`` too.
    """
    whole = encoded_schema(kind) if encoded else schema(kind)
    table = whole.empty_table().select(columns) if compacted is None else compacted
    files = trial_files(store, kind)
    # in Arrow: as sets of Python's strings this took a quarter of a query over 14,400 trials
    covered, listed = table["trial_id"].unique().cast(pa.string()), pa.array(files, pa.string())
    gone, new = _without(covered, listed), _without(listed, covered).to_pylist()
    if len(gone):
        table = table.filter(pc.invert(pc.is_in(table["trial_id"], gone)))
    if not new:
        return table
    fresh = read_files(store, kind, {trial: files[trial] for trial in new})
    merged = _merged(table, fresh.select(columns).cast(table.schema))
    # one dictionary a column again: each slice would bring the whole of its own
    return merged.unify_dictionaries().combine_chunks() if encoded else merged


def trial_files(store: Store, kind: str) -> dict[str, str]:
    """Trial id to key of every finished trial of a kind, by one listing.

    Raises:
        DamagedResult: naming the first file that has not the name of a result.
    """
    files = {}
    for key in store.keys(trials_prefix(kind)):
        trial_id = trial_id_at(key, kind)
        if trial_id is None:
            raise foreign(store, key)
        files[trial_id] = key
    return files


def foreign(store: Store, key: str) -> DamagedResult:
    return DamagedResult(
        Problem.FOREIGN,
        f"only results lie under {store.uri}/trials; {store.uri}/{key} has not the name and folder of one. "
        "Move it away",
        file=f"{store.uri}/{key}",
    )


def read_files(store: Store, kind: str, files: Mapping[str, str]) -> pa.Table:
    """The rows of these trial files (id to key), in order of trial id and epoch."""

    def read(trial_id: str) -> pa.Table:
        key = files[trial_id]
        data = require_present(store, key, "a result that was listed", most_bytes(kind))
        return decode_trial(data, kind, trial_id, f"{store.uri}/{key}").table

    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(read, sorted(files)))
    return pa.concat_tables([schema(kind).empty_table(), *tables]).combine_chunks()


def _without(left: pa.Array, right: pa.Array) -> pa.Array:
    """What of one array is not in another."""
    return left.filter(pc.invert(pc.is_in(left, right)))


def _compacted(store: Store, kind: str, columns: list[str], encoded: bool) -> pa.Table | None:
    try:
        compacted = read_compacted(store, kind, columns, encoded=encoded)
    except DamagedFile as error:
        warnings.warn(str(error), DamagedIndexWarning, stacklevel=3)
        return None
    return compacted and compacted.table


def _merged(left: pa.Table, right: pa.Table) -> pa.Table:
    """Two tables without a trial in common, each in order, as one in order.

    Slices of the first around the trials of the second: nothing is copied, where a sort takes a second for
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
    """The trials of a table in order, and the row where each starts, with the table's length at the end."""
    counts = pc.value_counts(table["trial_id"])
    lengths = counts.field("counts").to_pylist()
    return counts.field("values").to_pylist(), [0, *accumulate(lengths)]
