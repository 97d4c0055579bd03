"""Classification of exceptions, which decides what is retried, and what they imply about the results root."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayError

from jobs.errors import (
    Code,
    DamagedFile,
    DeltaSweepError,
    InvalidRequest,
    MissingData,
    ResultsConflict,
    StorageFailure,
    machine_failure,
    out_of_memory,
)
from jobs.execution.commit import Attempt
from jobs.execution.gpu_memory import WorkspaceRefused
from jobs.results import FailureKind, open_store, read_failures
from orchestrator.failures.failure_classification import (
    breaks_gpu,
    classify,
    context_lost,
    is_about_inputs,
    record_crash,
    record_error,
    root_failure,
)
from orchestrator.failures.outcomes import RootFailure

TOO_LARGE = 1 << 50  # bytes: more than a process can address
FAULTS: dict[str, tuple[Callable[[], object], FailureKind]] = {
    "memory of a processor": (lambda: torch.empty(TOO_LARGE, dtype=torch.uint8), FailureKind.MEMORY),
    "memory of Python": (lambda: bytearray(TOO_LARGE), FailureKind.MEMORY),
    "a file": (lambda: Path("/nowhere/at/all").read_bytes(), FailureKind.INFRASTRUCTURE),
    "a number": (lambda: int("x"), FailureKind.ERROR),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whose_fault_an_exception_is(fault: str) -> None:
    raising, kind = FAULTS[fault]
    with pytest.raises(Exception) as caught:  # noqa: PT011  # errors of any type
        raising()
    assert classify(caught.value) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), FailureKind.MEMORY),
        (WorkspaceRefused("the GPU refused some"), FailureKind.MEMORY),
        (RuntimeError("CUDA error: out of memory"), FailureKind.MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), FailureKind.MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), FailureKind.ERROR),
        (ConnectionResetError(), FailureKind.INFRASTRUCTURE),
        (TimeoutError(), FailureKind.INFRASTRUCTURE),
        (StorageFailure(Code.STORAGE, "full", file="/root"), FailureKind.INFRASTRUCTURE),
        (out_of_memory(MemoryError(), "/root/x"), FailureKind.MEMORY),
        (DamagedFile(Code.DAMAGED_DATA, "cut off", file="/data"), FailureKind.ERROR),
        (RuntimeError("memory format"), FailureKind.ERROR),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), FailureKind.ERROR),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), FailureKind.INFRASTRUCTURE),
        (RuntimeError("CUDA error: the MPS client has been terminated by the server"), FailureKind.INFRASTRUCTURE),
        (RuntimeError("CUDA error: unspecified launch failure"), FailureKind.ERROR),
        (RuntimeError("CUDA error: unknown error"), FailureKind.INFRASTRUCTURE),
        (RuntimeError("No CUDA GPUs are available"), FailureKind.INFRASTRUCTURE),
        (context_lost(RuntimeError("CUDA error: an illegal memory access")), FailureKind.INFRASTRUCTURE),
    ],
)
def test_whose_fault_is_said_by_the_type(error: Exception, kind: FailureKind) -> None:
    assert classify(error) is kind


@pytest.mark.parametrize(
    ("error", "breaks"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("No CUDA GPUs are available"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (RuntimeError("CUDA error: out of memory"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_after_which_errors_a_process_computes_nothing_more_on_its_gpu(error: Exception, breaks: bool) -> None:
    assert breaks_gpu(error) is breaks


@pytest.mark.parametrize(
    ("error", "file", "of_machine"),
    [
        (DamagedFile, "/data/birds/1.jpg", True),
        (DamagedFile, "", True),
        (DamagedFile, "{root}/weights/finetune-x.safetensors", False),
        (MissingData, "/data/birds", True),
        (ResultsConflict, "{root}/sources/natural.json", True),
        (InvalidRequest, "/data/birds", False),
        (StorageFailure, "/data/birds", False),
    ],
)
def test_what_is_wrong_with_the_inputs_of_one_machine(
    error: type[DeltaSweepError], file: str, of_machine: bool, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "root")
    raised = error(Code.DAMAGED_DATA, "wrong", file=file.format(root=store.uri))
    assert is_about_inputs(store, raised) is of_machine


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemoryError("full"), FailureKind.MEMORY),  # type: ignore[no-untyped-call]
        (ActorDiedError(), FailureKind.INFRASTRUCTURE),
    ],
)
def test_an_actor_that_ended_without_an_answer(error: RayError, kind: FailureKind, tmp_path: Path) -> None:
    store = open_store(tmp_path / "root")
    outcome = record_crash(store, "x-1", "launch", error)
    (kept,) = read_failures(store)
    assert (outcome.kind, kept.kind, kept.attempt, kept.launch) == (kind, kind, 1, "launch")
    assert (outcome.signature, outcome.root_failure) == (kept.signature, None)


LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))])
def test_too_little_memory_for_a_file_of_the_root_says_nothing_of_the_root(error: Exception, tmp_path: Path) -> None:
    """Only one machine is too small, so the launch continues."""
    store = open_store(tmp_path / "root")
    failure = machine_failure(error, f"{store.uri}/checkpoints/x")
    assert failure is not None
    assert (failure.code, root_failure(store, failure)) == (Code.OUT_OF_MEMORY, None)
    outcome = record_error(store, "x-1", Attempt(1, "launch"), failure)
    assert (outcome.kind, outcome.root_failure) == (FailureKind.MEMORY, None)


@pytest.mark.parametrize(
    ("code", "number", "lasting"),
    [
        *((Code.STORAGE, number, True) for number in LASTING),
        *((Code.STORAGE, number, False) for number in PASSING),
        (Code.STORAGE, None, False),
        (Code.WRONG_PLACE, None, True),
        (Code.WRONG_PLACE, errno.EIO, True),
    ],
)
def test_what_a_root_answers_to_every_trial_lasts(
    code: Code, number: int | None, lasting: bool, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "root")
    error = StorageFailure(code, "said", file=f"{store.uri}/trials/x")
    error.__cause__ = None if number is None else OSError(number, os.strerror(number))
    assert root_failure(store, error) == RootFailure(str(error), lasting)
    assert record_error(store, "x-1", Attempt(1, "launch"), error).root_failure == RootFailure(str(error), lasting)


def test_what_a_bucket_refuses_lasts(tmp_path: Path) -> None:
    """Its client's errors have no error number of the system."""
    store = open_store(tmp_path / "root")
    error = StorageFailure(Code.STORAGE, "access was denied", file=store.uri, refuses=True)
    assert root_failure(store, error) == RootFailure("access was denied", True)
