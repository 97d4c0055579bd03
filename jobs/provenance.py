"""Which code ran: recorded with every result, never part of an identity. No torch."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("torch", "torchvision", "robustness", "ray", "numpy", "pillow", "pyarrow", "safetensors")


@cache
def code_version() -> str:
    """The installed version of DeltaSweep."""
    try:
        return version("deltasweep")
    except PackageNotFoundError:
        return "not installed"


@cache
def packages() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
