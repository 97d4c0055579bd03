"""Compaction of results while a launch runs."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from jobs.errors import DeltaSweepError
from jobs.results import Store, compact, kinds, uncovered
from orchestrator.launching.heartbeat import HURRY_SECONDS

COMPACT_FROM = 500
"""Number of trials outside the index that triggers a compaction. Reading them one by one takes about 0.2 s."""
_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 3600.0
"""The pause doubles after each failure, up to this one."""
_END_SECONDS = 600.0
"""A launch waits this long for its last compaction, which takes seconds or a minute unless the storage fails."""


class Compacting:
    """Context manager that keeps the index of a results root up to date, in a thread: a compaction of many trials takes
    longer than a launch may be without a heartbeat.
    """

    def __init__(self, store: Store, warn: Callable[[str], None], may_write: Callable[[], bool]) -> None:
        """
        Args:
            warn: Called with a message, once for each reason for which the results cannot be compacted; trials run on.
            may_write: Returns whether the root can be written to. Otherwise the launch has reported it.
        """
        self._store = store
        self._warn = warn
        self._may_write = may_write
        self._told = set[object]()
        self._over = threading.Event()
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._keep_compacting, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self.cancel()
        self.finish()
        hurry = self._cancelled.is_set()
        try:
            self._thread.join(HURRY_SECONDS if hurry else _END_SECONDS)
        finally:
            self.cancel()  # a thread that goes on, as it waits for storage, begins nothing more
        if self._thread.is_alive() and not hurry:
            self._warn(f"Warning: the results were not compacted within {_END_SECONDS:.0f} s after the last trial")

    def finish(self) -> None:
        """Compact a last time in the background. Exiting the context waits for this."""
        self._over.set()

    def cancel(self) -> None:
        """Begin no other compaction, not even a last one, and do not let the exit of the context wait for one."""
        self._cancelled.set()
        self._over.set()

    def _keep_compacting(self) -> None:
        pause = _PAUSE_SECONDS
        while not self._over.wait(pause):
            pause = _PAUSE_SECONDS if self._compact() else min(2 * pause, _LONGEST_PAUSE_SECONDS)
        self._compact()

    def _compact(self) -> bool:
        """Update the index of each kind, unless cancelled or the root cannot be written. Return False if any failed."""
        failed = [kind for kind in kinds() if self._goes_on() and not self._compact_kind(kind)]
        return not failed

    def _goes_on(self) -> bool:
        return not self._cancelled.is_set() and self._may_write()

    def _compact_kind(self, kind: str) -> bool:
        """Update the index of a kind if enough trials are not covered by it. Return False if that failed."""
        try:
            if uncovered(self._store, kind) >= COMPACT_FROM:
                compact(self._store, kind)
        except Exception as error:  # noqa: BLE001  # a lack of memory, for example; the launch does not depend on it
            self._tell(error)
            return False
        return True

    def _tell(self, error: Exception) -> None:
        """Report a failure, unless the same has been reported: that of a file, or else any of its type."""
        cause: object = type(error)
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, DeltaSweepError):
            cause, reason = (error.code, error.place.file), str(error)
        if cause not in self._told:
            self._told.add(cause)
            self._warn(f"Warning: the results were not compacted: {reason}")
