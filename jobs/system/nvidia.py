"""NVIDIA GPUs of this machine or container, by the device files of their driver. No torch."""

from pathlib import Path

_DEVICE_FILES = "nvidia[0-9]*"


def count_gpus(devices: Path = Path("/dev")) -> int:
    """Return the number of GPUs with a driver, whether or not this process may use them."""
    return sum(1 for _ in devices.glob(_DEVICE_FILES))


def machine_has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU with its driver."""
    return count_gpus() > 0
