"""Which code ran, and where: recorded with every result, never part of an identity. No torch."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import NamedTuple

UNKNOWN = "unknown"
"""Of checkpoints whose version did not record it."""

THEN = " -> "
"""Between two environments of one trial, in a result's columns."""
_PROBED = " (probe "
_DECIDING = ("torch", "torchvision")
"""Packages whose version decides about bits (design, promise 1)."""
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


class Environment(NamedTuple):
    """Where a part of a trial was computed."""

    device_kind: str
    """As ``jobs.device_kind`` names it; ``UNKNOWN``."""
    packages: str
    """Versions as JSON; ``UNKNOWN``."""

    @property
    def same_bits(self) -> tuple[object, ...] | None:
        """What environments that compute the same bits have in common; None when it is not known."""
        versions = _versions(self.packages)
        if _PROBED not in self.device_kind or "torch" not in versions:
            return None
        return self.device_kind, *(versions.get(name) for name in _DECIDING)


class History(tuple[Environment, ...]):
    """The environments that a trial ran in, in order.

    As columns of a result, each of ``device_kind`` and ``packages`` has its values in order ("A -> B"), a value that
    stayed once.
    """

    __slots__ = ()

    def then(self, environment: Environment) -> "History":
        """Go on in an environment."""
        return self if self[-1:] == (environment,) else History((*self, environment))

    @property
    def columns(self) -> dict[str, str]:
        """As columns of a result."""
        return {name: THEN.join(_changes(getattr(e, name) for e in self)) for name in Environment._fields}

    @property
    def same_bits(self) -> tuple[object, ...] | None:
        """What trials have in common whose numbers must be equal; None where equality is not promised: for parts that
        were computed by another kind of device, torch or torchvision, or nobody knows by which.
        """
        found = {environment.same_bits for environment in self}
        return found.pop() if len(found) == 1 else None


def history_of(device_kind: str | None, packages: str | None) -> History:
    """The history that a result's columns tell. Which kind went with which packages is not told where both changed:
    every pair is in it.
    """
    kinds, versions = (parts_of(text or UNKNOWN) for text in (device_kind, packages))
    return History(Environment(kind, version) for kind in kinds for version in versions)


def is_mixed(device_kind: str | None, packages: str | None) -> bool:
    """Whether a result's columns tell of several kinds of device, or several versions of torch or torchvision."""
    history = history_of(device_kind, packages)
    versions = {tuple(_versions(e.packages).get(name) for name in _DECIDING) for e in history}
    return len({e.device_kind for e in history}) > 1 or len(versions) > 1


def parts_of(column: str) -> list[str]:
    """The values of a column of a result that tells of several environments, in order."""
    return column.split(THEN)


def _changes(values: Iterable[str]) -> Sequence[str]:
    return [value for value, _ in groupby(values)]


def _versions(packages: str) -> dict[str, object]:
    try:
        found = json.loads(packages)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
