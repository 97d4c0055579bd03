"""What is kept of an attempt that failed: why, where, and its log."""

import json
from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from pydantic import TypeAdapter

from jobs.errors import Code, DamagedFile
from jobs.results.layout import failure_key, log_key
from jobs.results.records import read_record
from jobs.results.store import Store


class FailureKind(StrEnum):
    """Whose fault an attempt's end was; it decides what happens next (docs/architecture.md)."""

    INFRASTRUCTURE = "infrastructure"
    """The machine, the actor or the storage went away: tried again, not held against the trial."""
    MEMORY = "memory"
    """Out of memory: tried again with twice the share."""
    ERROR = "error"
    """The trial raised: tried once more, then quarantined if it fails in the same way."""


class Failure(NamedTuple):
    """One failed attempt at a trial."""

    trial_id: str
    attempt: int
    kind: FailureKind
    error: str
    """The exception's type."""
    reason: str
    """The exception's message."""
    host: str
    launch: str
    failed_at: str
    """UTC, ISO 8601."""

    @property
    def signature(self) -> str:
        """Two failures with one signature failed in the same way."""
        return f"{self.error}: {self.reason}"


_FAILURE = TypeAdapter(Failure)
_REMEDY = "remove it: the attempt then counts for nothing"


def record_failure(store: Store, failure: Failure, log: str) -> None:
    """Keep a failure and its log; the log first, so that a failure that is seen has one.

    Where two drivers run the same attempt and both fail, the second record takes the next free number.
    """
    attempt = failure.attempt
    while not store.create(log_key(failure.trial_id, attempt), log.encode()):
        attempt += 1
    record = failure._replace(attempt=attempt)._asdict()
    store.create(failure_key(failure.trial_id, attempt), json.dumps(record).encode())


def next_attempt(store: Store, trial_id: str) -> int:
    """The number of the attempt that starts now, from 1."""
    return 1 + sum(1 for _ in store.keys(f"failures/{trial_id}"))


def read_failures(store: Store) -> list[Failure]:
    """All failed attempts, in order of trial id and attempt.

    Raises:
        DamagedFile: naming a record that cannot be read.
    """
    return sorted(read_failure(store, key) for key in store.keys("failures"))


def quarantined(failures: Iterable[Failure]) -> set[str]:
    """The trials whose last two own errors are the same: running them again would fail again."""
    errors: dict[str, list[str]] = defaultdict(list)
    for failure in sorted(failures):
        if failure.kind is FailureKind.ERROR:
            errors[failure.trial_id].append(failure.signature)
    return {trial for trial, signatures in errors.items() if len(signatures) > 1 and len(set(signatures[-2:])) == 1}


def read_failure(store: Store, key: str) -> Failure:
    """One failed attempt. Raises DamagedFile, naming it, when it cannot be read or is another's."""
    failure = read_record(store, key, _FAILURE, "a failure record", _REMEDY)
    if key != failure_key(failure.trial_id, failure.attempt):
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"{store.uri}/{key} is the record of attempt {failure.attempt} at {failure.trial_id!r}, not of the one "
            f"that its name says; {_REMEDY}",
            file=f"{store.uri}/{key}",
        )
    return failure
