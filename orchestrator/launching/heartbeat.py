"""Heartbeats of launches in the results root."""

import getpass
import os
import socket
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from jobs.errors import Code, DeltaSweepError, StorageFailure
from jobs.provenance import code_version, packages
from jobs.results import Launch, Store, write_launch
from jobs.results.launches import CLOCKS_AGREE, HEARTBEAT_SECONDS, timestamp
from jobs.results.layout import launch_key, study_key

_FIRST_SECONDS = 5.0
"""Delay of the first heartbeat, short so that `status` soon shows running trials."""
HURRY_SECONDS = 2.0
"""After an exception, such as a second Ctrl-C, a launch waits this long for its threads, which may wait for storage."""


def new_launch(study: str, digest: str) -> Launch:
    """Return the record of a launch that starts now. Launch ids sort by time.

    Args:
        study: Name of the study.
        digest: Digest of the study file's version.
    """
    now = timestamp()
    return Launch(
        launch=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}",
        study=study,
        digest=digest,
        user=_user(),
        host=socket.gethostname(),
        started_at=now,
        code_version=code_version(),
        packages=packages(),
        heartbeat_at=now,
    )


def _user() -> str:
    """Return the user's name, or the user id if it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class Heartbeat:
    """Context manager that writes the launch's record every ``HEARTBEAT_SECONDS``, in a thread of its own."""

    def __init__(
        self,
        store: Store,
        launch: Launch,
        in_flight: Callable[[], tuple[str, ...]],
        warn: Callable[[str], None],
        failed: Callable[[DeltaSweepError], object] = lambda _: None,
    ) -> None:
        """
        Args:
            in_flight: Returns the ids of the trials that actors are running. Called from the thread.
            warn: Called with a message when the record cannot be written, once per outage; trials run on.
            failed: Called with the error each time that the record could not be written, from the thread, until
                ``finish``.
        """
        self._store = store
        self._launch = launch
        self._in_flight = in_flight
        self._warn = warn
        self._failed = failed
        self._failing = False
        self._writing = threading.Lock()
        """Held during a write, so that a record that was begun before does not replace a newer one."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        key = launch_key(self._launch.launch)
        before = datetime.now(UTC)
        write_launch(self._store, self._launch)
        after = datetime.now(UTC)
        self._store.hold(key, study_key(self._launch.study, self._launch.digest))
        with suppress(FileNotFoundError):  # it was removed, which the next write reports
            if about_clock := _about_clock(before, after, self._store.written_at(key)):
                self._warn(about_clock)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(None if error is None else HURRY_SECONDS)
        if error is None or not (self._thread.is_alive() or self._failing):
            self._write(ended_at=timestamp("milliseconds"), place=None)

    @property
    def writes(self) -> bool:
        """Whether the record could be written the last time."""
        return not self._failing

    def take(self, place: int) -> None:
        """Record the launch's place among those that run the same trials, for those that look later."""
        self._launch = self._launch._replace(place=place)
        self.beat()

    def finish(self) -> None:
        """Report failures no longer to ``failed``, since no trial is left to stop. The heartbeat goes on."""
        self._failed = lambda _: None

    def _beat(self) -> None:
        pause = _FIRST_SECONDS
        while not self._over.wait(pause):
            pause = HEARTBEAT_SECONDS
            if (error := self.beat()) is not None:
                self._failed(error)

    def beat(self) -> DeltaSweepError | None:
        """Write the record now. Return the error if it could not be written, else None."""
        return self._write(in_flight=self._in_flight())

    def _write(self, **fields: Any) -> DeltaSweepError | None:
        try:
            with self._writing:
                write_launch(self._store, self._launch._replace(heartbeat_at=timestamp(), **fields))
        except (DeltaSweepError, MemoryError) as error:
            failure = error if isinstance(error, DeltaSweepError) else _no_memory(self._store)
            if not self._failing:
                self._warn(f"Warning: the record of this launch could not be written: {failure}")
            self._failing = True
            return failure
        self._failing = False
        return None


def _about_clock(before: datetime, after: datetime, written: datetime) -> str | None:
    """Return a warning if this machine's clock is not synchronized with that of the storage.

    Args:
        before: this machine's time before a write, and ``after`` after it.
        written: the storage's time of that write.
    """
    ahead, behind = (before - written).total_seconds(), (written - after).total_seconds()
    if max(ahead, behind) <= CLOCKS_AGREE:
        return None
    differs = f"{ahead:,.0f} s ahead of" if ahead > behind else f"{behind:,.0f} s behind"
    return (
        f"Warning: this machine's clock is {differs} that of the results root. Status, merge and other launches may "
        "take this launch for ended while it runs, or for running after its end. Fix: synchronize the clocks of all "
        "machines"
    )


def _no_memory(store: Store) -> StorageFailure:
    return StorageFailure(
        Code.OUT_OF_MEMORY, "this machine has too little memory. Fix: end other programs", file=store.uri
    )
