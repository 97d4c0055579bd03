"""Records of launches: who launched which study, and whether it is still running."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter

from jobs.errors import DamagedFile
from jobs.results.layout import launch_key
from jobs.results.records import Timestamp, misnamed, read_listed, read_record
from jobs.results.store import Store
from jobs.system.printable import one_line

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 90.0
"""Three missed heartbeats: the driver has exited, or cannot reach the root."""
CLOCKS_AGREE = 30.0
"""Difference in seconds up to which clocks count as synchronized; of ``STALE_SECONDS``, two heartbeats remain."""
CLOCKS_DIFFER = 3600.0
"""Tolerated clock difference between two machines, in seconds. Times further in the future are wrong and ignored."""


class Launch(NamedTuple):
    """One launch of a study. Times are UTC, ISO 8601."""

    launch: str
    study: str
    digest: str
    user: str
    host: str
    started_at: Timestamp
    code_version: str
    packages: dict[str, str]
    heartbeat_at: Timestamp
    in_flight: tuple[str, ...] = ()
    """Ids of the trials that actors are running."""
    ended_at: Timestamp | None = None
    place: Annotated[int, Field(ge=0)] | None = None
    """Its place among the running launches of the same trials (``orchestrator.launching.sharing``). None: it has chosen
    none yet, or has ended, or a version before 0.3.0 wrote the record.
    """

    @property
    def told(self) -> str:
        """A one-line description for messages."""
        return one_line(f"launch {self.launch} of study {self.study} by {self.user} on {self.host}")

    def heard(self, now: datetime) -> str:
        """Return when the last heartbeat was, for messages."""
        return self.about_clock(now) or f"last heard {max(self._silent_seconds(now), 0):,.0f} s ago"

    def about_clock(self, now: datetime) -> str:
        """Return a message about a last heartbeat in the future; empty if it is not."""
        ahead = -self._silent_seconds(now)
        if ahead <= CLOCKS_AGREE:
            return ""
        return f"last heard {ahead:,.0f} s in the future: synchronize the clock of its machine, or of this one"

    def alive(self, now: datetime) -> bool:
        """Return whether the last heartbeat is more recent than ``STALE_SECONDS`` and the launch has not ended."""
        return self.ended_at is None and -CLOCKS_DIFFER < self._silent_seconds(now) < STALE_SECONDS

    def _silent_seconds(self, now: datetime) -> float:
        """Return the time since the last heartbeat; negative if the clocks of its machine and this one differ."""
        return (now - datetime.fromisoformat(self.heartbeat_at)).total_seconds()


_LAUNCH = TypeAdapter(Launch)
_REMEDY = "Fix: wait a minute, in which a running launch replaces it; if that launch has ended, remove it"


def write_launch(store: Store, launch: Launch) -> None:
    """Write or update the record of a launch, atomically but without fsync, because the next heartbeat follows soon."""
    record = launch._asdict()
    if launch.place is None:
        del record["place"]  # versions before 0.3.0 refuse records with keys that they do not know
    store.replace(launch_key(launch.launch), json.dumps(record).encode(), durable=False)


def read_launches(store: Store) -> list[Launch]:
    """Return all launches of a root, oldest first.

    Raises:
        DamagedFile: naming a record that cannot be read.
    """
    return sorted(read_listed(store, "launches", read_launch), key=lambda launch: launch.launch)


def readable_launches(store: Store) -> list[Launch]:
    """Return the launches of a root whose records can be read, oldest first, for what decides only names and looks."""
    found = []
    for key in store.survey("launches").keys:
        with suppress(DamagedFile, FileNotFoundError):
            found.append(read_launch(store, key))
    return sorted(found, key=lambda launch: launch.launch)


def timestamp(precision: str = "seconds") -> str:
    """Return the current time in the format of records.

    Args:
        precision: ``seconds`` or ``milliseconds``.
    """
    return datetime.now(UTC).isoformat(timespec=precision)


def read_launch(store: Store, key: str) -> Launch:
    """Read one launch.

    Raises:
        DamagedFile: naming the record, if it cannot be read or belongs to another launch (MisnamedRecord).
    """
    launch = read_record(store, key, _LAUNCH, "a launch record", _REMEDY)
    if key != launch_key(launch.launch):
        raise misnamed(store, key, f"the record of launch {launch.launch!r:.200}, not of the one in its name", _REMEDY)
    return launch
