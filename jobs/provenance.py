"""Which code ran, and where: recorded with every result, never part of an identity. No torch."""

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import NamedTuple

UNKNOWN = "unknown"
"""Of checkpoints whose version did not record it."""

THEN = " -> "
"""Between two environments of one trial, in a result's columns."""
_PROBED = " (probe "
"""In the name of a kind that was found out by computing."""
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


class History(NamedTuple):
    """What a trial was computed by, in order; each value as long as it stayed."""

    device_kinds: tuple[str, ...] = ()
    """As ``jobs.device_kind`` names them, or ``UNKNOWN``."""
    packages: tuple[str, ...] = ()
    """Versions as JSON, or ``UNKNOWN``."""

    def then(self, later: "History") -> "History":
        """This one, and after it another."""
        pairs = zip(self, later, strict=True)
        return History(*(tuple(value for value, _ in groupby((*before, *after))) for before, after in pairs))

    @property
    def columns(self) -> dict[str, str]:
        """As columns of a result: "A -> B"."""
        return dict(zip(HISTORY_COLUMNS, map(THEN.join, self), strict=True))

    @property
    def mixed(self) -> bool:
        """Whether it has several kinds of device, or several versions of torch or torchvision."""
        return len(set(self.device_kinds)) > 1 or len(self._deciding()) > 1

    @property
    def same_bits(self) -> tuple[object, ...] | None:
        """What two trials have in common whose numbers must be equal; None where equality is not promised: for a mixed
        one, and where nobody knows what computed it.
        """
        kinds, versions = set(self.device_kinds), self._deciding()
        if self.mixed or not all(_PROBED in kind for kind in kinds) or None in versions:
            return None
        return (*kinds, *versions)

    def _deciding(self) -> set[tuple[str | None, ...] | None]:
        """Versions of torch and torchvision; None: unknown."""
        found = (_versions(packages) for packages in self.packages)
        return {tuple(versions.get(name) for name in _DECIDING) if "torch" in versions else None for versions in found}


HISTORY_COLUMNS = ("device_kind", "packages")
"""The columns of a result that tell its history."""


def history_of(device_kind: str | None, packages: str | None) -> History:
    """The history that a result's columns tell."""
    return History(tuple(parts_of(device_kind or UNKNOWN)), tuple(parts_of(packages or UNKNOWN)))


def parts_of(column: str) -> list[str]:
    """The values of a column of a result's history, in order."""
    return column.split(THEN)


def _versions(packages: str) -> dict[str, str]:
    """Version by package; nothing of what strangers wrote that is no such thing."""
    try:
        found = json.loads(packages)
    except (ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: version for name, version in pairs if isinstance(version, str)}
