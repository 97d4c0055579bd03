"""GPU memory of a process that shares the card with others, and why sharing changes no number.

Only one thing in a trial depends on free memory. For a convolution, torch tries cuDNN's algorithms in the order of its
heuristics. If the workspace of one cannot be allocated, torch takes the next without an error, and keeps that choice
for the rest of the process (``aten/src/ATen/native/cudnn/Conv_v8.cpp``: ``try_configs`` and ``benchmark_cache``).
Another algorithm gives other bits. Neither torch nor cuDNN 9 can limit workspaces. But torch's allocator counts the
requests that it refuses. If it refused one that did not raise an error, ``Refusals`` refuses the numbers: the trial
fails for lack of memory before anything of them is saved, and the process computes no other trial.

Each process may take its share of the card, or the whole card, less what CUDA and its libraries need
(``limit_memory``). So the allocator refuses before the card is full and cuDNN's own small allocations, which are not
counted, would fail.
"""

import gc
import os
from collections.abc import Callable, Mapping

import torch

from jobs.system.memory import GPU_RUNTIME_BYTES, Memory

ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Variables with settings of torch's allocator; the second has priority on CUDA."""

_ALLOCATOR = "expandable_segments:True"
"""Segments that grow, so that trials of different sizes, one after another, do not fragment a small share."""

_CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""A fixed size of workspaces, which cuBLAS needs to be deterministic. Its algorithm, and so bits, may depend on it."""

_IMAGES_PART = 0.5
"""Part that images may take of what a plan leaves of a share. Not all, because a plan is an estimate."""

_UNPLANNED_IMAGES = 0.25
"""Part of the card that images may take in a process whose trials were not planned (``deltasweep run``)."""


class WorkspaceRefused(MemoryError):
    """A request for GPU memory was refused without an error, so that numbers may come from another algorithm."""


_OF_LIBRARIES = (
    "CUDA error: out of memory",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",  # cuDNN 9
)
"""Parts of messages about GPU memory that something besides torch's allocator requested."""
_OF_TORCH = ("can't allocate memory", "CUDA out of memory", torch.OutOfMemoryError.__name__, WorkspaceRefused.__name__)
"""Parts of messages, and of the last output of processes, about other memory; torch has no exception class for a
machine's."""


def says_out_of_memory(message: str) -> bool:
    """Whether the message of an error, or the output of a process, says that memory was exhausted."""
    return any(text in message for text in (*_OF_TORCH, *_OF_LIBRARIES))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of a trial means that memory, of the machine or of a GPU, was exhausted."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or says_out_of_memory(str(error))


def set_environment() -> None:
    """Set the variables that torch and cuBLAS read when they start to use the GPU. Idempotent; starts nothing.

    The user's own settings of the allocator are kept, because they change no number.
    """
    os.environ.update(_CUBLAS)
    if not any(variable in os.environ for variable in ALLOCATOR_VARIABLES):
        os.environ[ALLOCATOR_VARIABLES[0]] = _ALLOCATOR


def allowed_bytes(total: float, share: float) -> float:
    """Return the bytes that torch's allocator may take, given the card's memory and the process's share of it.

    A share includes the memory of CUDA itself, and so does a whole card.
    """
    return max(0.0, min(share, 1) * total - GPU_RUNTIME_BYTES)


def limit_memory(device: torch.device, share: float = 1) -> None:
    """Limit torch's allocator in this process to a share of the GPU. Without a GPU, nothing is limited.

    Args:
        share: fraction of the card, or number of cards.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(allowed_bytes(total, share) / total, device)


def set_limit(device: torch.device, share: float, planned: float) -> None:
    """Limit this process to its share of the GPU (``limit_memory``), and its images to a part of that.

    Args:
        share: fraction of the card, or number of cards.
        planned: bytes of GPU memory that the process's trials are planned to need, including CUDA itself. Images may
            stay on the device in half of what is left.
    """
    if device.type != "cuda":
        return
    limit_memory(device, share)
    total = torch.cuda.get_device_properties(device).total_memory
    _images_room.setdefault(device.type, max(0, int(_IMAGES_PART * (min(share, 1) * total - planned))))


def free_memory(device: torch.device) -> Memory:
    """Return the GPU memory that this process can still allocate, and that it may take in all.

    The first is the minimum of what is free on the card, with what torch's allocator holds unused, and of what is left
    of the process's limit (``limit_memory``).
    """
    free, total = torch.cuda.mem_get_info(device)
    allowed = int(torch.cuda.get_per_process_memory_fraction(device) * total)
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    return Memory(max(0, min(free + reserved - allocated, allowed - allocated)), allowed)


_images_room: dict[str, int] = {}


def images_room(device: torch.device) -> int:
    """Return the bytes of GPU memory that images may take in this process; 0 without a GPU."""
    if device.type != "cuda":
        return 0
    if device.type not in _images_room:  # its trials were not planned: `deltasweep run`
        return int(_UNPLANNED_IMAGES * torch.cuda.get_device_properties(device).total_memory)
    return _images_room[device.type]


def keep_no_images(device: torch.device) -> None:
    """Let no images stay on the device in this process, from the next trial on."""
    _images_room[device.type] = 0


def recover(device: torch.device) -> None:
    """Make room after a trial ran out of memory: from now on no images, and nothing unused, stay on the device."""
    keep_no_images(device)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class Refusals:
    """Requests for GPU memory that were refused in this process, with and without an error."""

    def __init__(self, count: Callable[[torch.device], int]) -> None:
        """
        Args:
            count: returns the number of requests that the device's allocator has refused since the process started.
        """
        self._count = count
        self._raised = 0
        self._card_full = False

    def silent(self, device: torch.device) -> bool:
        """Whether any request was, or may have been, refused without an error. From then on, it stays true."""
        return self._card_full or self._count(device) > self._raised

    def require_none(self, device: torch.device, *, others: bool = False) -> None:
        """Check the numbers that were computed since the process started, before anything of them is kept.

        Args:
            others: whether a request was refused in another process that computes the same numbers.

        Raises:
            WorkspaceRefused: if a request was refused without an error.
        """
        if others or self.silent(device):
            raise WorkspaceRefused(
                "expected enough GPU memory for the workspaces of all convolutions, because others give other bits; "
                "the GPU refused some. Fix: none is needed under a launch, which runs the trial again with a larger "
                "share; if a whole GPU is too small, lower the recipe's batch sizes"
            )

    def caught(self, error: Exception, device: torch.device) -> Exception:
        """Account for an error that ends a trial while this process continues. Call once for each such error.

        Returns:
            The error to report: this one, or the lack of memory that may have caused it.
        """
        if isinstance(error, torch.OutOfMemoryError):
            # exactly one refusal raises it; the minimum, because torch refuses absurd sizes without counting them
            self._raised = min(self._count(device), self._raised + 1)
        elif any(text in str(error) for text in _OF_LIBRARIES):
            self._card_full = True  # and what cuDNN requests is not counted
        if is_out_of_memory(error) or not self.silent(device):
            return error
        refused = WorkspaceRefused(f"the GPU refused memory to a convolution, and then: {error}")
        refused.__cause__ = error
        return refused

    def forget(self, device: torch.device) -> None:
        """Start over, in a process of which no number is kept as a result: a benchmark.

        Algorithms that were chosen for lack of memory remain chosen.
        """
        self._raised, self._card_full = self._count(device), False


def _refused(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    statistics: Mapping[str, int] = torch.cuda.memory_stats_as_nested_dict(device)
    return statistics.get("num_ooms", 0)


refusals = Refusals(_refused)
"""Those of this process."""
