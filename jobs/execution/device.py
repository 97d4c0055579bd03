"""The device on which this process computes trials."""

import torch

from jobs.execution.gpu_memory import set_environment, set_limit


def default_device() -> torch.device:
    """Return the first GPU visible to this process, or the CPU. Ray shows an actor only its own GPUs."""
    set_environment()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def shared_device(share: float, planned: float) -> torch.device:
    """Return the device of an actor, limited to its share of the memory.

    Args:
        share: GPUs that Ray has given to the actor. With 0 it is the CPU: Ray then shows all GPUs of the machine.
        planned: see ``set_limit``.
    """
    device = default_device() if share else torch.device("cpu")
    set_limit(device, share, planned)
    return device
