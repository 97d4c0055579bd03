"""Which code ran, and where: recorded with every result, never part of a trial's identity. No torch."""

import json
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from itertools import groupby
from typing import NamedTuple

UNKNOWN = "unknown"
"""Used for checkpoints and results that do not contain the value."""

THEN = " -> "
"""Separates the successive environments of one trial in a result's columns."""
_PROBED = " (probe "
"""Occurs in the name of a device kind that was determined by a probe computation."""
_DECIDING = ("torch", "torchvision")
"""Packages whose version determines the bits of a result (docs/decisions/device-kinds.md)."""
_PACKAGES = ("torch", "torchvision", "timm", "robustness", "ray", "numpy", "pillow", "pyarrow", "safetensors")

OPTIONAL = frozenset({"timm"})
"""Those that only an extra installs. Trials that need one fail without it; no other trial depends on it."""

KINDS = "deltasweep.kinds"
"""The entry-point group through which other packages add kinds of trials."""


@cache
def registered_kinds() -> tuple[EntryPoint, ...]:
    """Return the entry points that other packages register, sorted by name, without loading them."""
    return tuple(sorted(entry_points(group=KINDS), key=lambda point: (point.name, point.value)))


@cache
def code_version() -> str:
    """Return the installed version of DeltaSweep."""
    try:
        return version("deltasweep")
    except PackageNotFoundError:
        return "not installed"


@cache
def packages() -> dict[str, str]:
    """Return the versions of the packages that results depend on; packages that add kinds of trials come last."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions | {point.dist.name: point.dist.version for point in registered_kinds() if point.dist is not None}


class History(NamedTuple):
    """The environments that computed a trial, in order; consecutive equal values are stored once."""

    device_kinds: tuple[str, ...] = ()
    """Names as in ``jobs.execution.device_kind``, or ``UNKNOWN``."""
    packages: tuple[str, ...] = ()
    """Package versions as JSON, or ``UNKNOWN``."""

    def then(self, later: "History") -> "History":
        """Return this history followed by a later one."""
        pairs = zip(self, later, strict=True)
        return History(*(tuple(value for value, _ in groupby((*before, *after))) for before, after in pairs))

    @property
    def columns(self) -> dict[str, str]:
        """The history as columns of a result: "A -> B"."""
        return dict(zip(HISTORY_COLUMNS, map(THEN.join, self), strict=True))

    @property
    def mixed(self) -> bool:
        """Whether the history has several device kinds, or several versions of torch or torchvision."""
        return len(set(self.device_kinds)) > 1 or len(self._deciding()) > 1

    @property
    def same_bits(self) -> tuple[object, ...] | None:
        """A key that two trials share if their numbers must be equal; None where equality is not promised: for a mixed
        history, or where the environment is unknown.
        """
        kinds, versions = set(self.device_kinds), self._deciding()
        if self.mixed or not all(_PROBED in kind for kind in kinds) or None in versions:
            return None
        return (*kinds, *versions)

    def _deciding(self) -> set[tuple[str | None, ...] | None]:
        """Return the versions of torch and torchvision; None stands for unknown versions."""
        found = (_versions(packages) for packages in self.packages)
        return {tuple(versions.get(name) for name in _DECIDING) if "torch" in versions else None for versions in found}


HISTORY_COLUMNS = ("device_kind", "packages")
"""The columns of a result that contain its history."""


def history_of(device_kind: str | None, packages: str | None) -> History:
    """Return the history stored in a result's columns."""
    return History(tuple(parts_of(device_kind or UNKNOWN)), tuple(parts_of(packages or UNKNOWN)))


def parts_of(column: str) -> list[str]:
    """Return the values in a history column of a result, in order."""
    return column.split(THEN)


def _versions(packages: str) -> dict[str, str]:
    """Return version by package; invalid values, which untrusted files may contain, are ignored."""
    try:
        found = json.loads(packages)
    except (ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: version for name, version in pairs if isinstance(version, str)}
