"""From an exception to a failure record: whose fault it was, and its log."""

import socket
import traceback

import torch

from jobs.records import Attempt
from jobs.results import Failure, FailureKind, Store, next_attempt, record_failure
from jobs.results.launches import timestamp


def classify(error: BaseException) -> FailureKind:
    """Whose fault an exception inside a trial was.

    Storage and network errors are OSErrors, StorageFailure among them. Torch has no class for the CPU's memory.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return FailureKind.MEMORY
    if isinstance(error, OSError):
        return FailureKind.INFRASTRUCTURE
    return FailureKind.ERROR


def record_error(store: Store, trial_id: str, attempt: Attempt, error: BaseException) -> Failure:
    """Keep why an attempt raised, with its traceback as the log."""
    log = "".join(traceback.format_exception(error))
    return _record(store, trial_id, attempt, classify(error), type(error).__name__, str(error), log)


def record_crash(store: Store, trial_id: str, launch: str, error: BaseException) -> Failure:
    """Keep that an actor ended without an answer. Ray's and Tune's own message is all that is known of it."""
    kind = FailureKind.MEMORY if "OutOfMemory" in type(error).__name__ else FailureKind.INFRASTRUCTURE
    reason = next(iter(str(error).strip().splitlines()), "no message")
    attempt = Attempt(next_attempt(store, trial_id), launch)
    return _record(store, trial_id, attempt, kind, type(error).__name__, reason, f"{error}\n")


def _record(
    store: Store, trial_id: str, attempt: Attempt, kind: FailureKind, error: str, reason: str, log: str
) -> Failure:
    failure = Failure(
        trial_id=trial_id,
        attempt=attempt.number,
        kind=kind,
        error=error,
        reason=reason,
        host=socket.gethostname(),
        launch=attempt.launch,
        failed_at=timestamp(),
    )
    record_failure(store, failure, log)
    return failure
