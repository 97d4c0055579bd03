"""Classifying exceptions and recording them as failures, with logs."""

import errno
import socket
import traceback

import torch

from jobs.errors import Code, DamagedFile, MissingData, ResultsConflict, StorageFailure
from jobs.execution.commit import Attempt
from jobs.execution.gpu_memory import is_out_of_memory
from jobs.results import Failure, FailureKind, Store, next_attempt, record_failure
from jobs.results.launches import timestamp
from orchestrator.failures.outcomes import Outcome, RootFailure

_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
"""Storage errors that affect every trial until somebody fixes their cause."""
_GPU_LIBRARIES = ("CUDA error", "CUDA driver error", "cuDNN error", "cusolver error", "cuFFT error", "NCCL error")
"""Parts of messages about the GPU. After most of these errors a process can compute nothing more on it."""
_OF_MACHINE = (
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "no CUDA-capable device is detected",
    "CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: unknown error",
    "CUDA unknown error",
    "CUDA driver error: unknown error",
    "CUDA driver initialization failed",
    "CUDA driver version is insufficient",
    "Found no NVIDIA driver",
    "No CUDA GPUs are available",
    "Unexpected error from cudaGetDeviceCount",
    "system not yet initialized",
    "unsupported display driver",
    "MPS client",
    "MPS server",
    "required to support device connections",
)
"""Parts of messages about a GPU, its driver or its MPS server that no trial can cause in its own process."""


class ContextLost(OSError):
    """A trial used its GPU after an error of another trial had destroyed the process's CUDA context."""


def context_lost(error: Exception) -> ContextLost:
    """Return the error to record for a trial whose GPU had failed under another one."""
    lost = ContextLost(f"the GPU had failed under another trial of the same process, and then: {error}")
    lost.__cause__ = error
    return lost


def classify(error: BaseException) -> FailureKind:
    """Return the kind of failure for an exception inside a trial.

    Storage and network errors are OSErrors, including StorageFailure.
    """
    if is_out_of_memory(error) or _short_of_memory(error):
        return FailureKind.MEMORY
    if isinstance(error, OSError) or any(text in str(error) for text in _OF_MACHINE):
        return FailureKind.INFRASTRUCTURE
    return FailureKind.ERROR


def breaks_gpu(error: BaseException) -> bool:
    """Whether this process must not compute another trial on its GPU: after any error of CUDA other than a lack of
    memory, because most of them destroy the context, and every later call then fails.
    """
    of_gpu = isinstance(error, torch.AcceleratorError) or any(
        text in str(error) for text in (*_GPU_LIBRARIES, *_OF_MACHINE)
    )
    return of_gpu and not is_out_of_memory(error)


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
    full = isinstance(error.__cause__, OSError) and error.__cause__.errno in _LASTING
    return RootFailure(str(error), full or error.refuses)


def _short_of_memory(error: BaseException) -> bool:
    """Whether this machine ran out of memory while reading a file of the root, which is then not at fault."""
    return isinstance(error, StorageFailure) and error.code is Code.OUT_OF_MEMORY


def _in_root(store: Store, file: str) -> bool:
    return file == store.uri or file.startswith(f"{store.uri.rstrip('/')}/")


def record_error(store: Store, trial_id: str, attempt: Attempt, error: BaseException, log: str = "") -> Outcome:
    """Record the exception of an attempt.

    Args:
        log: its traceback; by default that of the exception in this process.
    """
    failure = _failure(trial_id, attempt, classify(error), type(error).__name__, str(error))
    return _recorded(store, failure, log or "".join(traceback.format_exception(error)), root_failure(store, error))


def record_crash(store: Store, trial_id: str, launch: str, error: BaseException, log: str = "") -> Outcome:
    """Record that an actor ended without returning outcomes.

    Args:
        error: an exception that the actor raised outside of its trials, or an error of Ray or Tune, of which only the
            message is known.
        log: the traceback of an exception that the actor raised; empty for an error of Ray or Tune.
    """
    try:
        number = next_attempt(store, trial_id)
    except StorageFailure:
        number = 1  # the record uses the next free number if it can be written at all
    attempt = Attempt(number, launch)
    if log:
        return record_error(store, trial_id, attempt, error, log)
    kind = FailureKind.MEMORY if "OutOfMemory" in type(error).__name__ else FailureKind.INFRASTRUCTURE
    reason = next(iter(str(error).strip().splitlines()), "no message")
    return _recorded(store, _failure(trial_id, attempt, kind, type(error).__name__, reason), f"{error}\n")


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
