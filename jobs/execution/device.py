"""The device on which this process computes trials."""

import torch


def default_device() -> torch.device:
    """Return the first GPU visible to this process, or the CPU. Ray shows an actor only its own GPUs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
