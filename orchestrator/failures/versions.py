"""Checks that driver and actors use the same package versions, since different versions may compute other numbers."""

import socket
from collections.abc import Mapping

from jobs.provenance import OPTIONAL, code_version, packages


class UnfitMachine(Exception):
    """A machine cannot run any trial of the launch.

    The launch stops, because that machine would take and fail one trial after another. No trial is charged.
    """


class VersionsDiffer(UnfitMachine):
    """An actor's package versions differ from the driver's."""


def versions() -> dict[str, str]:
    """Return the versions of DeltaSweep and of the packages that affect results, in this process."""
    return {"deltasweep": code_version(), **packages()}


def require_same(drivers: Mapping[str, str]) -> None:
    """Compare this process's package versions with the driver's. An optional package may be missing on one side.

    Raises:
        VersionsDiffer: If any differ; the message lists each of them.
    """
    own = versions()
    different = [
        f"{name} {own.get(name, 'missing')} (the driver has {drivers.get(name, 'none')})"
        for name in sorted(own.keys() | drivers.keys())
        if own.get(name) != drivers.get(name) and not (name in OPTIONAL and None in (own.get(name), drivers.get(name)))
    ]
    if different:
        raise VersionsDiffer(
            f"expected the driver's package versions; {socket.gethostname()} has {', '.join(different)}. "
            "Fix: install the same versions there (docs/tutorial/cluster.md)"
        )
