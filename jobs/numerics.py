"""The process-wide switches of torch that change bits, set from the recipe and put back after."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from jobs.specs import Execution


@contextmanager
def numerics(execution: Execution) -> Iterator[None]:
    """Run a block with the recipe's threads and TF32 setting, and deterministic algorithms on.

    Ray sets the OpenMP threads of an actor from its share of the CPU; sums differ with the number of
    threads, so the recipe's number wins (design, promise 1).
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    precision = torch.get_float32_matmul_precision()
    cudnn_tf32 = torch.backends.cudnn.allow_tf32
    benchmark = torch.backends.cudnn.benchmark
    torch.set_num_threads(execution.threads)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("high" if execution.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = execution.tf32
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn_tf32
        torch.backends.cudnn.benchmark = benchmark


def device_kind(device: torch.device) -> str:
    """The kind of machine that a number is reproducible on: ``cpu-avx512``, ``NVIDIA L4, cpu-avx2``, ...

    The CPU counts beside a GPU: fresh layers are drawn on it, and torch draws normal numbers by the vector
    functions of its instruction set. (Images do not depend on it: PIL resizes them to the same bytes everywhere.)
    """
    cpu = f"cpu-{torch.backends.cpu.get_cpu_capability().lower()}"
    return cpu if device.type == "cpu" else f"{torch.cuda.get_device_name(device)}, {cpu}"


def memory_format(execution: Execution) -> torch.memory_format:
    """The recipe's memory format as torch's constant."""
    return torch.channels_last if execution.memory_format == "channels_last" else torch.contiguous_format
