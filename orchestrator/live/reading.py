"""Reading a results root again and again: each time only what is new. Nothing is ever written.

Results and failures never change once they are written, so each is read once; finished trials that the compacted index
covers are read from it. Launches are read until they have ended, checkpoints of running trials when a newer one exists.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import DamagedFile
from jobs.kind import GRID_KIND, INSTALL_IT, NOT_INSTALLED, kinds
from jobs.results import Failure, Launch, Store, StudyRecord, require_layout, root_exists
from jobs.results.failures import read_failure
from jobs.results.index import read_compacted
from jobs.results.launches import read_launch
from jobs.results.layout import checkpoint_position, kind_at, trial_id_of
from jobs.results.parquet import decode_trial
from jobs.results.progress import Progress, read_progress
from jobs.results.schema import most_bytes
from jobs.results.studies import read_study
from orchestrator.live.contents import Contents, Evaluated, Run
from orchestrator.live.rows import columns, evaluated, recipes, runs, sources

T = TypeVar("T")
_READERS = 8
"""Threads that read small files."""
_MOST_FILES = 400
"""Results outside the index that one look reads, at 1 ms each; the next look continues. A launch compacts every 500."""
_MOST_AGAIN = 20
"""Damaged results that each look reads again."""
_MOST_PROBLEMS = 50


class Reader:
    """Reads one results root. Used by one thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._results: dict[str, str] = {}
        self._keys: set[str] = set()
        self._unread: dict[str, str] = {}
        """Kind by the key of a result whose rows are to be read."""
        self._damaged: dict[str, str] = {}
        """Messages by key."""
        self._runs: dict[str, Run] = {}
        self._evaluations: dict[str, Evaluated] = {}
        self._sources: dict[str, str] = {}
        """By trial."""
        self._named: frozenset[str] = frozenset()
        """The values of ``_sources``."""
        self._recipes: dict[str, str] = {}
        self._records: dict[str, Failure | StudyRecord | Launch | Progress | str] = {}
        """By key: a record that never changes, or a message about it."""
        self._foreign: dict[str, str | None] = {}
        """Other names below ``trials``: the kind by key, which is not registered, or None for what is no result."""
        self._index: list[str] = []
        """Messages about the compacted index, which is read once."""
        self._exists = self._begun = False

    def look(self) -> Contents:
        """Read what is new in the root.

        Raises:
            StorageFailure: if the storage does not respond, or the root has disappeared.
            InvalidRequest, DamagedFile: if a newer DeltaSweep has written the root, or its record is damaged.
        """
        self._exists = self._exists or root_exists(self.store)
        require_layout(self.store)
        now = datetime.now(UTC)
        problems: list[str] = []
        self._list_results(problems)
        if self._exists and not self._begun:
            self._index = [message for kind in kinds() for message in self._read_index(kind)]
            self._begun = True
        self._read_results()
        launches = self._all("launches", read_launch, problems, final=lambda launch: launch.ended_at is not None)
        flying = {trial for launch in launches if launch.alive(now) for trial in launch.in_flight}
        failures = self._all("failures", read_failure, problems)
        studies = self._all("studies", read_study, problems)
        return Contents(
            at=now,
            exists=self._exists,
            results=self._results,
            damaged={trial_id_of(key): message for key, message in sorted(self._damaged.items())},
            unread=len(self._unread),
            runs=self._runs,
            evaluations=self._evaluations,
            sources=self._named,
            recipes=self._recipes,
            failures=tuple(sorted(failures, key=lambda failure: (failure.failed_at, failure))),
            launches=tuple(sorted(launches, key=lambda launch: launch.launch)),
            studies=tuple(studies),
            running=self._progress(flying, problems),
            weights=frozenset(map(_name, self._listed("weights", problems)))
            if self._keeps_weights(studies)
            else frozenset(),
            problems=(*self._index, *self._about_foreign(), *problems)[:_MOST_PROBLEMS],
        )

    def _listed(self, prefix: str, problems: list[str]) -> list[str]:
        found = self.store.survey(prefix)
        problems += map(str, found.strangers.values())
        return found.keys

    def _list_results(self, problems: list[str]) -> None:
        """Update the listing of finished trials; only names that are new are looked at."""
        keys = set(self._listed("trials", problems))
        gone, new = self._keys - keys, keys - self._keys
        self._keys = keys
        results = dict(self._results) if gone or new else self._results
        for key in gone:
            for of in (self._unread, self._damaged, self._foreign):
                of.pop(key, None)
            results.pop(trial_id_of(key), None)
        for key in new:
            kind = kind_at(key)
            if kind is None or kind not in kinds():
                self._foreign[key] = kind
            else:
                results[trial_id_of(key)] = self._unread[key] = kind
        self._results = results
        if gone:
            self._forget(set(map(trial_id_of, gone)))

    def _about_foreign(self) -> Iterator[str]:
        counts = Counter(self._foreign.values())
        for kind, count in counts.items():
            if kind is not None:
                yield f"{count:,} results of kind {kind!r}, {NOT_INSTALLED}, are not shown. {INSTALL_IT}"
        for key in sorted(key for key, kind in self._foreign.items() if kind is None)[:_MOST_PROBLEMS]:
            yield f"{self.store.uri}/{key} does not have the path of a result. Fix: move it away"

    def _forget(self, trials: set[str]) -> None:
        self._runs = {trial: run for trial, run in self._runs.items() if trial not in trials}
        self._evaluations = {trial: of for trial, of in self._evaluations.items() if trial not in trials}
        self._sources = {trial: of for trial, of in self._sources.items() if trial not in trials}
        self._named = frozenset(self._sources.values())

    def _read_index(self, kind: str) -> list[str]:
        """Read the rows of finished trials from the compacted index; return messages about it."""
        waiting = {trial_id_of(key): key for key, of in self._unread.items() if of == kind}
        if not waiting:
            return []
        try:
            read = read_compacted(self.store, kind, columns(kind), encoded=True)
        except DamagedFile as error:
            return [str(error)]
        if read is None:
            return []
        covered = read.table["trial_id"].cast(pa.string())
        table = read.table.filter(pc.is_in(covered, pa.array(list(waiting), pa.string())))
        self._add(table, kind)
        for trial in table["trial_id"].unique().to_pylist():
            del self._unread[waiting[trial]]
        return []

    def _read_results(self) -> None:
        """Read the files of finished trials that are new, and again those that were damaged: they may be restored.

        If the storage fails at one of them, nothing changes, and the next look reads all of them again.
        """
        chosen = [*sorted(self._unread)[:_MOST_FILES], *sorted(self._damaged)[:_MOST_AGAIN]]
        if not chosen:
            return
        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(zip(chosen, pool.map(self._result, chosen), strict=True))
        read: dict[str, list[pa.Table]] = {}
        results = dict(self._results)
        damaged = {key: message for key, message in self._damaged.items() if key not in found}
        for key, one in found.items():
            kind, trial = key.split("/")[1], trial_id_of(key)
            if isinstance(one, pa.Table):
                read.setdefault(kind, []).append(one)
                results[trial] = kind
            else:
                results.pop(trial, None)
                if one:
                    damaged[key] = one
        for kind, tables in read.items():
            self._add(pa.concat_tables(tables), kind)
        self._damaged = damaged
        self._unread = {key: kind for key, kind in self._unread.items() if key not in found}
        if results != self._results:
            self._results = results

    def _result(self, key: str) -> pa.Table | str:
        """Return the rows in a trial's file, or a message about it; an empty one if it was removed."""
        kind = key.split("/")[1]
        try:
            data = self.store.read_within(key, most_bytes(kind))
            return decode_trial(data, kind, trial_id_of(key), f"{self.store.uri}/{key}").table.select(columns(kind))
        except FileNotFoundError:
            return ""
        except DamagedFile as error:
            return str(error)

    def _add(self, table: pa.Table, kind: str) -> None:
        self._runs = {**self._runs, **runs(table)}
        self._sources |= sources(table)
        self._named = frozenset(self._sources.values())
        if kind == GRID_KIND:
            self._evaluations = {**self._evaluations, **{one.trial_id: one for one in evaluated(table)}}
            self._recipes = {**self._recipes, **recipes(table)}

    def _all(
        self,
        prefix: str,
        read: Callable[[Store, str], T],
        problems: list[str],
        final: Callable[[T], bool] = lambda _: True,
    ) -> list[T]:
        """Return the records below a prefix; those that can change are read again.

        Args:
            final: whether a record never changes.
        """
        found: list[T] = []
        for key in sorted(self._listed(prefix, problems)):
            record = self._records.get(key)
            if record is None:
                try:
                    fresh = read(self.store, key)
                except FileNotFoundError:
                    continue
                except DamagedFile as error:
                    problems.append(str(error))
                    continue
                if final(fresh):
                    self._records[key] = fresh  # type: ignore[assignment]  # one of its types, by the prefix
                found.append(fresh)
            else:
                found.append(record)  # type: ignore[arg-type]  # of the prefix's type
        return found

    def _progress(self, flying: set[str], problems: list[str]) -> dict[str, Progress]:
        """Return the newest checkpoint of each running trial; what older ones said is forgotten."""
        newest: dict[str, tuple[tuple[int, int], str]] = {}
        for key in self._listed("checkpoints", problems) if flying else ():
            position, trial = checkpoint_position(key), key.split("/")[1]
            if position is not None and trial in flying and trial not in self._results:
                newest[trial] = max(newest.get(trial, (position, key)), (position, key))
        found: dict[str, Progress] = {}
        known = {key: record for key, record in self._records.items() if isinstance(record, Progress)}
        for trial, (_, key) in newest.items():
            with suppress(FileNotFoundError, DamagedFile):  # deleted meanwhile; `verify` reports damaged ones
                found[trial] = known.pop(key) if key in known else read_progress(self.store, key)
                self._records[key] = found[trial]
        for key in known:
            del self._records[key]
        return found

    @staticmethod
    def _keeps_weights(studies: Iterable[StudyRecord]) -> bool:
        """Whether any study has sections whose trials are only done with their weights; all others need no listing."""
        return any(f"{kind}:" in study.text for study in studies for kind in kinds() if kind != GRID_KIND)


def _name(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".safetensors")
