"""Results and logs that pages show when somebody looks at them: each is read once for all viewers."""

from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from jobs.errors import DamagedFile, StorageFailure
from jobs.results import Store
from jobs.results.layout import trial_key
from jobs.results.parquet import decode_trial
from jobs.results.schema import most_bytes
from jobs.system.printable import printable
from orchestrator.live.contents import Contents
from orchestrator.live.once import Once

_MOST_KEPT = 32 << 20
"""Characters of texts and bytes of results."""
_MOST_LOG = 1 << 20
_SHOWN_LOG = 200_000
"""Characters: the end of a longer log."""
_SETTLED = timedelta(minutes=1)
"""After the end of an attempt, its actor writes no more."""
_LARGE = ("binary", "list<item: int64>")
"""Types of columns that are not shown."""


class Objects:
    """What was read of one results root. May be used by several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.kept: Once[Any] = Once(_MOST_KEPT, lambda of: of.nbytes if isinstance(of, pa.Table) else len(of))


class Reading:
    """Reads what one view of a page shows. Objects that may still change are read again at the next look."""

    def __init__(self, objects: Objects, contents: Contents, look: int) -> None:
        """
        Args:
            look: number of the last look at the root.
        """
        self._objects = objects
        self._contents = contents
        self._look = look
        self.passing = False
        """Whether anything that was read may be different at the next look."""

    def text(self, key: str, ended: str = "") -> str:
        """Return the end of a text, printable; in parentheses, why it cannot be read; empty: there is none.

        Args:
            ended: when the attempt that it is of has ended, ISO 8601; empty: it is running.
        """
        final = bool(ended) and _is_settled(ended, self._contents.at)
        self.passing = self.passing or not final
        try:
            text: str = self._objects.kept.get((key, None if final else self._look), lambda: self._read_text(key))
        except (DamagedFile, StorageFailure) as error:
            self.passing = self.passing or isinstance(error, StorageFailure)
            return printable(f"({error})")
        return text

    def result(self, kind: str, trial: str) -> pa.Table | str:
        """Return the rows of a finished trial without large columns, or why they cannot be shown."""
        # one that was moved away and computed again has another run
        key: Hashable = kind, trial, self._contents.runs.get(trial)
        try:
            return self._objects.kept.get(key, lambda: self._read_result(kind, trial))
        except FileNotFoundError:
            return "its result was removed"
        except (DamagedFile, StorageFailure) as error:
            self.passing = self.passing or isinstance(error, StorageFailure)
            return str(error)

    def _read_text(self, key: str) -> str:
        try:
            data = self._objects.store.read_within(key, _MOST_LOG)
        except FileNotFoundError:
            return ""
        return printable(data.decode(errors="replace")[-_SHOWN_LOG:])

    def _read_result(self, kind: str, trial: str) -> pa.Table:
        store, key = self._objects.store, trial_key(kind, trial)
        table = decode_trial(store.read_within(key, most_bytes(kind)), kind, trial, f"{store.uri}/{key}").table
        return table.drop_columns([field.name for field in table.schema if str(field.type) in _LARGE])


def _is_settled(ended: str, now: datetime) -> bool:
    try:
        return abs(now - datetime.fromisoformat(ended)) > _SETTLED
    except (ValueError, TypeError):  # a time of a stranger
        return True
