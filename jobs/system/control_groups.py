"""The control groups of this process, which limit what a container or batch job may use. Linux only."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple


class ControlGroup(NamedTuple):
    """A directory of the cgroup file system; it may not exist, or have no limit."""

    version: Literal[1, 2]
    directory: Path


def control_groups(controller: str, root: Path) -> Iterator[ControlGroup]:
    """Yield this process's control group and its ancestors.

    Inside a container, its own group may be mounted at the top, regardless of its path.

    Args:
        controller: ``memory`` or ``cpu``.
        root: the parent directory of ``proc`` and ``sys``.
    """
    lines = list[str]()
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text("utf-8", errors="replace").splitlines()
    for _, controllers, path in (parts for line in lines if len(parts := line.split(":", 2)) == 3):
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = top / path.strip("/")
        for directory in (group, *group.parents):
            yield ControlGroup(1 if controllers else 2, directory)
            if directory == top:
                break
