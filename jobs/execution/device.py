"""The device on which this process computes trials."""

import os

import torch

from jobs.execution.gpu_memory import limit_memory, set_environment, set_limit
from jobs.system import nvidia


class GpuUnusable(RuntimeError):
    """Torch does not see a GPU that this machine has and that this process was given."""


def default_device() -> torch.device:
    """Return the current GPU of this process, by default the first that it sees, or the CPU.

    Ray shows an actor only its own GPUs. The GPU has its index, because some functions of torch refuse one without. The
    process may take all of its memory, less that of CUDA itself.
    """
    set_environment()
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    limit_memory(device)
    return device


def shared_device(share: float, planned: float) -> torch.device:
    """Return the device of an actor, limited to its share of the memory.

    Args:
        share: GPUs that Ray has given to the actor. With 0 it is the CPU: Ray then shows all GPUs of the machine.
        planned: see ``set_limit``.

    Raises:
        GpuUnusable: if the actor was given a GPU that exists, and torch does not see it. A GPU that exists only as a
            number, as in a cluster that was started with ``--num-gpus`` on a machine without any, is the CPU.
    """
    device = default_device() if share else torch.device("cpu")
    if share and device.type == "cpu" and _given_gpu_exists():
        raise GpuUnusable(
            f"expected torch to see the GPU that Ray gave to an actor; torch {torch.__version__} (CUDA "
            f"{torch.version.cuda or 'not built in'}) sees none, and the machine has an NVIDIA GPU. Fix: install a "
            "driver and a torch that fit each other there, or write gpu: 0 in the study's resources to use its CPUs"
        )
    set_limit(device, share, planned)
    return device


def _given_gpu_exists() -> bool:
    """Whether one of the GPUs that this process may see exists: Ray numbers them from 0, or keeps the user's names."""
    there = nvidia.count_gpus()
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    return there > 0 and any(not gpu.lstrip("-").isdecimal() or 0 <= int(gpu) < there for gpu in given if gpu)
