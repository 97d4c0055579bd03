"""What is kept of an attempt that failed: why, where, and its log."""

import json
from typing import NamedTuple

from jobs.errors import DamagedFile
from jobs.results.layout import failure_key, log_key
from jobs.results.store import Store


class Failure(NamedTuple):
    """One failed attempt at a trial."""

    trial_id: str
    attempt: int
    error: str
    """The exception's type."""
    reason: str
    """The exception's message."""
    host: str
    launch: str
    failed_at: str
    """UTC, ISO 8601."""


def record_failure(store: Store, failure: Failure, log: str) -> None:
    """Keep a failure and its log; the log first, so that a failure that is seen has one."""
    store.create(log_key(failure.trial_id, failure.attempt), log.encode())
    store.create(failure_key(failure.trial_id, failure.attempt), json.dumps(failure._asdict()).encode())


def next_attempt(store: Store, trial_id: str) -> int:
    """The number of the attempt that starts now, from 1."""
    return 1 + sum(1 for _ in store.keys(f"failures/{trial_id}"))


def read_failures(store: Store) -> list[Failure]:
    """All failed attempts, in order of trial id and attempt.

    Raises:
        DamagedFile: naming a record that cannot be read.
    """
    return sorted(_read(store, key) for key in store.keys("failures"))


def _read(store: Store, key: str) -> Failure:
    try:
        return Failure(**json.loads(store.read(key)))
    except (ValueError, TypeError) as error:
        raise DamagedFile(f"{store.uri}/{key} is not a failure record ({error}); remove it") from error
