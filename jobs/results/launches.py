"""Launches: who runs what, and whether they are still at it."""

import json
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import TypeAdapter

from jobs.printable import one_line
from jobs.results.layout import launch_key
from jobs.results.records import Timestamp, read_record
from jobs.results.store import Store

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 90.0
"""Three heartbeats missed: the driver is gone, or cut off from the root."""
CLOCKS_DIFFER = 3600.0
"""Seconds that clocks of two machines may differ by. A time further in the future is wrong, and says nothing."""


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
    """Ids of the trials that an actor works on."""
    ended_at: Timestamp | None = None

    @property
    def told(self) -> str:
        """Which it is, for a person, on one line."""
        return one_line(f"launch {self.launch} of {self.user} on {self.host}")

    def alive(self, now: datetime) -> bool:
        """Whether its driver showed itself within ``STALE_SECONDS`` and has not said that it ended."""
        silent = (now - datetime.fromisoformat(self.heartbeat_at)).total_seconds()
        return self.ended_at is None and -CLOCKS_DIFFER < silent < STALE_SECONDS


_LAUNCH = TypeAdapter(Launch)


def write_launch(store: Store, launch: Launch) -> None:
    """Write a launch down, or its newest heartbeat over it: whole, but not fsynced, for the next comes soon."""
    store.replace(launch_key(launch.launch), json.dumps(launch._asdict()).encode(), durable=False)


def read_launches(store: Store) -> list[Launch]:
    """All launches of a root, oldest first.

    Raises:
        DamagedFile: naming a record that cannot be read.
    """
    return sorted((read_launch(store, key) for key in store.keys("launches")), key=lambda launch: launch.launch)


def timestamp() -> str:
    """Now, as the records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_launch(store: Store, key: str) -> Launch:
    """One launch. Raises DamagedFile, naming it, when it cannot be read."""
    return read_record(store, key, _LAUNCH, "a launch record", "remove it: a launch that is at work writes it again")
