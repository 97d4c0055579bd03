"""From an exception to an outcome and a failure record: whose fault it was, and its log."""

import errno
import socket
import traceback

import torch

from jobs.errors import Code, StorageFailure
from jobs.records import Attempt
from jobs.results import Failure, FailureKind, Store, next_attempt, record_failure
from jobs.results.launches import timestamp
from orchestrator.outcomes import Outcome, RootFailure

_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
"""What a storage answers to every trial, and until a person does something about it."""


def classify(error: BaseException) -> FailureKind:
    """Whose fault an exception inside a trial was.

    Storage and network errors are OSErrors, StorageFailure among them. Torch has no class for the CPU's memory.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return FailureKind.MEMORY
    if _short_of_memory(error):
        return FailureKind.MEMORY
    if isinstance(error, OSError):
        return FailureKind.INFRASTRUCTURE
    return FailureKind.ERROR


def root_failure(store: Store, error: BaseException) -> RootFailure | None:
    """What an exception says of the results root; None when it is about something else."""
    if not isinstance(error, StorageFailure) or _short_of_memory(error) or not _in_root(store, error.place.file):
        return None
    refused = isinstance(error.__cause__, OSError) and error.__cause__.errno in _LASTING
    return RootFailure(str(error), refused or error.code is Code.WRONG_PLACE)


def _short_of_memory(error: BaseException) -> bool:
    """Whether it was this machine's memory that failed while a file of the root was read: the root is well."""
    return isinstance(error, StorageFailure) and error.code is Code.OUT_OF_MEMORY


def _in_root(store: Store, file: str) -> bool:
    return file == store.uri or file.startswith(f"{store.uri.rstrip('/')}/")


def record_error(store: Store, trial_id: str, attempt: Attempt, error: BaseException) -> Outcome:
    """Keep why an attempt raised, with its traceback as the log."""
    log = "".join(traceback.format_exception(error))
    failure = _failure(trial_id, attempt, classify(error), type(error).__name__, str(error))
    return _recorded(store, failure, log, root_failure(store, error))


def record_crash(store: Store, trial_id: str, launch: str, error: BaseException) -> Outcome:
    """Keep that an actor ended without an answer. Ray's and Tune's own message is all that is known of it."""
    kind = FailureKind.MEMORY if "OutOfMemory" in type(error).__name__ else FailureKind.INFRASTRUCTURE
    reason = next(iter(str(error).strip().splitlines()), "no message")
    try:
        number = next_attempt(store, trial_id)
    except StorageFailure:
        number = 1  # the record takes the next that is free, where one can be made
    failure = _failure(trial_id, Attempt(number, launch), kind, type(error).__name__, reason)
    return _recorded(store, failure, f"{error}\n")


def _recorded(store: Store, failure: Failure, log: str, root: RootFailure | None = None) -> Outcome:
    """The outcome that a failure is; one that the root refuses to keep is told by a note instead, unless it is that the
    root refuses: the launch ends by it, and says so once.
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
