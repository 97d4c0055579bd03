"""Records of failed attempts: reason, host and log."""

import json
from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from pydantic import TypeAdapter

from jobs.results.layout import failure_key, log_key
from jobs.results.records import misnamed, read_listed, read_record
from jobs.results.store import Store


class FailureKind(StrEnum):
    """The cause of a failed attempt, which determines whether and how the trial is retried.

    See ``orchestrator.failures.retry_policy`` and docs/explanation/architecture.md.
    """

    INFRASTRUCTURE = "infrastructure"
    """The machine, the actor or the storage failed: retried, and not counted towards quarantine."""
    MEMORY = "memory"
    """Out of memory: retried outside its bundle, then with a larger share of a machine."""
    ERROR = "error"
    """The trial raised an error: retried alone, and quarantined if the same error repeats."""


class Failure(NamedTuple):
    """A failed attempt of a trial."""

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
        """Equal for two failures that failed in the same way."""
        return f"{self.error}: {self.reason}"


_FAILURE = TypeAdapter(Failure)
_REMEDY = "Fix: remove it; the attempt is then not counted"


def record_failure(store: Store, failure: Failure, log: str) -> int:
    """Store a failure and its log; the log is written first, so that every visible failure has one.

    If two drivers run the same attempt and both fail, the second record takes the next free number.

    Returns:
        The number of the attempt.
    """
    attempt = failure.attempt
    while not store.create(log_key(failure.trial_id, attempt), log.encode()):
        attempt += 1
    record = failure._replace(attempt=attempt)._asdict()
    store.create(failure_key(failure.trial_id, attempt), json.dumps(record).encode())
    return attempt


def next_attempt(store: Store, trial_id: str) -> int:
    """Return the number of the attempt that starts now, counted from 1."""
    return 1 + sum(1 for _ in store.keys(f"failures/{trial_id}"))


def read_failures(store: Store) -> list[Failure]:
    """Return all failed attempts, in order of trial id and attempt.

    Raises:
        DamagedFile: naming a record that cannot be read.
    """
    return sorted(read_listed(store, "failures", read_failure))


def quarantined(failures: Iterable[Failure], after: int) -> set[str]:
    """Return the trials whose last ``after`` failures of kind ERROR are the same, so that a retry would fail again."""
    errors: dict[str, list[str]] = defaultdict(list)
    for failure in sorted(failures):
        if failure.kind is FailureKind.ERROR:
            errors[failure.trial_id].append(failure.signature)
    last = {trial: signatures[-after:] for trial, signatures in errors.items() if len(signatures) >= after}
    return {trial for trial, signatures in last.items() if len(set(signatures)) == 1}


def read_failure(store: Store, key: str) -> Failure:
    """Read one failed attempt.

    Raises:
        DamagedFile: naming the record, if it cannot be read or belongs to another attempt (MisnamedRecord).
    """
    failure = read_record(store, key, _FAILURE, "a failure record", _REMEDY)
    if key != failure_key(failure.trial_id, failure.attempt):
        what = f"the record of attempt {failure.attempt} of {failure.trial_id!r:.200}, not of the attempt in its name"
        raise misnamed(store, key, what, _REMEDY)
    return failure
