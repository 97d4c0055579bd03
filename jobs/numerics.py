"""The process-wide switches of torch that change bits, set from the recipe and put back after."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from jobs.specs import Execution


@contextmanager
def numerics(execution: Execution) -> Iterator[None]:
    """Run a block with the recipe's threads and TF32 setting, and deterministic algorithms on.

    Ray sets the OpenMP threads of an actor from its share of the CPU; sums differ with the number of
    threads, so the recipe's number wins (design, promise 1).

    Deterministic algorithms also fill every new tensor, against code that reads what it has not written. No operation
    of a trial does, so that is off. What it takes differs by processor: 1.08 to 1.23 times the time of a training
    step on one, nothing that could be told from noise on another (``benchmarks/execution.py``, November 2026).
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    switches: Any = torch.utils.deterministic  # a module of properties: mypy does not see them
    filling = switches.fill_uninitialized_memory
    precision = torch.get_float32_matmul_precision()
    cudnn_tf32 = torch.backends.cudnn.allow_tf32
    benchmark = torch.backends.cudnn.benchmark
    torch.set_num_threads(execution.threads)
    torch.use_deterministic_algorithms(True)
    switches.fill_uninitialized_memory = False
    torch.set_float32_matmul_precision("high" if execution.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = execution.tf32
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        switches.fill_uninitialized_memory = filling
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn_tf32
        torch.backends.cudnn.benchmark = benchmark


def memory_format(execution: Execution) -> torch.memory_format:
    """The recipe's memory format as torch's constant."""
    return torch.channels_last if execution.memory_format == "channels_last" else torch.contiguous_format
