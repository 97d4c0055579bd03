"""Process-wide torch settings that change bits: set from the recipe, and restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from jobs.networks.arithmetic import attention_by_matrix_products
from jobs.specs.optimizers import Execution


@contextmanager
def deterministic(execution: Execution) -> Iterator[None]:
    """Run a block with the recipe's threads and TF32 setting, deterministic algorithms and one kind of attention.

    Ray sets an actor's OpenMP threads from its CPU share, and sums depend on the number of threads. The recipe's number
    of threads takes precedence (docs/explanation/architecture.md).

    Deterministic algorithms also fill every new tensor, to guard against reads of uninitialized memory. No operation of
    a trial reads such memory, so this is switched off. Its cost depends on the processor: a training step took 1.08 to
    1.23 times as long on one, with no measurable difference on another (``benchmarks/execution.py``, November 2026).
    """
    threads = torch.get_num_threads()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    switches: Any = torch.utils.deterministic  # a module with properties, which mypy does not see
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
        with attention_by_matrix_products():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(was_deterministic)
        switches.fill_uninitialized_memory = filling
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn_tf32
        torch.backends.cudnn.benchmark = benchmark


def memory_format(execution: Execution) -> torch.memory_format:
    """Return the recipe's memory format as torch's constant."""
    return torch.channels_last if execution.memory_format == "channels_last" else torch.contiguous_format
