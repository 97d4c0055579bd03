"""Drivers, actors and machines of different versions do not work together: their numbers may differ."""

import socket
from collections.abc import Mapping

from jobs.provenance import code_version, packages


class UnfitMachine(Exception):
    """A machine cannot run any trial of the launch as the driver can. The launch ends, and no trial is charged: that
    machine would take and fail one after another.
    """


class VersionsDiffer(UnfitMachine):
    """An actor has other packages than the driver."""


def versions() -> dict[str, str]:
    """Of DeltaSweep and of the packages that numbers depend on, in this process."""
    return {"deltasweep": code_version(), **packages()}


def require_same(drivers: Mapping[str, str]) -> None:
    """Compare this process with the driver.

    Raises:
        VersionsDiffer: naming each package that differs.
    """
    own = versions()
    different = [
        f"{name} {own.get(name, 'missing')} (the driver has {drivers.get(name, 'none')})"
        for name in sorted(own.keys() | drivers.keys())
        if own.get(name) != drivers.get(name)
    ]
    if different:
        raise VersionsDiffer(
            f"all machines of a launch need the driver's packages; {socket.gethostname()} has {', '.join(different)}. "
            "Install the same versions there (docs/cluster.md)"
        )
