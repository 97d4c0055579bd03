"""Classifying exceptions and recording them as failures, with logs."""

import errno
import socket
import traceback

from jobs.errors import Code, DamagedFile, MissingData, ResultsConflict, StorageFailure
from jobs.execution.commit import Attempt
from jobs.execution.gpu_memory import is_out_of_memory
from jobs.results import Failure, FailureKind, Store, next_attempt, record_failure
from jobs.results.launches import timestamp
from orchestrator.failures.outcomes import Outcome, RootFailure

_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
"""Storage errors that affect every trial until somebody fixes their cause."""


def classify(error: BaseException) -> FailureKind:
    """Return the kind of failure for an exception inside a trial.

    Storage and network errors are OSErrors, including StorageFailure.
    """
    if is_out_of_memory(error) or _short_of_memory(error):
        return FailureKind.MEMORY
    if isinstance(error, OSError):
        return FailureKind.INFRASTRUCTURE
    return FailureKind.ERROR


def is_about_inputs(store: Store, error: BaseException) -> bool:
    """Whether an exception inside a trial is about a dataset or source model on this machine: missing, damaged, or not
    the one that the results root knows. Files in the results root are the same for every machine.
    """
    if isinstance(error, DamagedFile):
        return not _in_root(store, error.place.file)
    return isinstance(error, MissingData | ResultsConflict)


def root_failure(store: Store, error: BaseException) -> RootFailure | None:
    """Return an exception as a failure of the results root, or None if it has another cause."""
    if not isinstance(error, StorageFailure) or _short_of_memory(error) or not _in_root(store, error.place.file):
        return None
    refused = isinstance(error.__cause__, OSError) and error.__cause__.errno in _LASTING
    return RootFailure(str(error), refused or error.code is Code.WRONG_PLACE)


def _short_of_memory(error: BaseException) -> bool:
    """Whether this machine ran out of memory while reading a file of the root, which is then not at fault."""
    return isinstance(error, StorageFailure) and error.code is Code.OUT_OF_MEMORY


def _in_root(store: Store, file: str) -> bool:
    return file == store.uri or file.startswith(f"{store.uri.rstrip('/')}/")


def record_error(store: Store, trial_id: str, attempt: Attempt, error: BaseException) -> Outcome:
    """Record the exception of an attempt, with its traceback as the log."""
    log = "".join(traceback.format_exception(error))
    failure = _failure(trial_id, attempt, classify(error), type(error).__name__, str(error))
    return _recorded(store, failure, log, root_failure(store, error))


def record_crash(store: Store, trial_id: str, launch: str, error: BaseException) -> Outcome:
    """Record that an actor ended without returning outcomes. Only the message of Ray or Tune is known."""
    kind = FailureKind.MEMORY if "OutOfMemory" in type(error).__name__ else FailureKind.INFRASTRUCTURE
    reason = next(iter(str(error).strip().splitlines()), "no message")
    try:
        number = next_attempt(store, trial_id)
    except StorageFailure:
        number = 1  # the record uses the next free number if it can be written at all
    failure = _failure(trial_id, Attempt(number, launch), kind, type(error).__name__, reason)
    return _recorded(store, failure, f"{error}\n")


def _recorded(store: Store, failure: Failure, log: str, root: RootFailure | None = None) -> Outcome:
    """Record a failure and return its outcome.

    If the record cannot be written, the outcome has a note instead, unless the root itself fails permanently: that
    ends the launch, which reports it once.
    """
    notes: tuple[str, ...] = ()
    try:
        record_failure(store, failure, log)
    except StorageFailure as error:
        if root is None or not root.lasting:
            notes = (f"{failure.trial_id} failed ({failure.signature}), and that could not be recorded: {error}",)
        root = root or root_failure(store, error)
    return Outcome.failed(failure, notes, root)


def _failure(trial_id: str, attempt: Attempt, kind: FailureKind, error: str, reason: str) -> Failure:
    return Failure(
        trial_id=trial_id,
        attempt=attempt.number,
        kind=kind,
        error=error,
        reason=reason,
        host=socket.gethostname(),
        launch=attempt.launch,
        failed_at=timestamp(),
    )
