"""How much memory is left to a process: of the machine, of its container or batch job, of its own limit. No torch."""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Bytes."""

    free: int
    """That could be had now, caches of files given up."""
    total: int


def machine_memory(root: Path = Path("/")) -> Memory:
    """Of this machine, of a control group (a container's, a batch job's), or of this process's own limit (``ulimit
    -v``): of what leaves it least.

    Args:
        root: where ``proc`` and ``sys`` are. Without them (not Linux) all memory counts as free.
    """
    found = [_of_machine(root), *_of_groups(root), *_of_process(root)]
    return Memory(min(one.free for one in found), min(one.total for one in found))


def _of_machine(root: Path) -> Memory:
    try:
        said = dict(line.partition(":")[::2] for line in (root / "proc/meminfo").read_text("ascii").splitlines())
        free, total = (int(said[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
        return Memory(free, total)
    except (OSError, KeyError, ValueError, IndexError):
        everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Memory(everything, everything)


_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By version of control groups: limit, use, and in ``memory.stat`` what of the use is files that can be let go."""


def _of_groups(root: Path) -> Iterator[Memory]:
    """Of this process's control group and of each above it, where they have a limit.

    What a container sees of its own group may lie at the top, whatever its path is called.
    """
    lines = list[str]()
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text("utf-8", errors="replace").splitlines()
    for _, controllers, path in (parts for line in lines if len(parts := line.split(":", 2)) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        version, top = (1, root / "sys/fs/cgroup/memory") if controllers else (2, root / "sys/fs/cgroup")
        group = top / path.strip("/")
        for directory in (group, *group.parents):
            with suppress(OSError, ValueError):  # no such group here, or no limit ("max")
                yield _of_group(directory, *_FILES[version])
            if directory == top:
                break


def _of_process(root: Path) -> Iterator[Memory]:
    """Of the addresses that this process may have."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        with suppress(OSError, ValueError, IndexError):
            used = int((root / "proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
            yield Memory(max(0, most - used), most)


def _of_group(directory: Path, limit: str, use: str, files: str) -> Memory:
    most, used = (int((directory / name).read_text("ascii")) for name in (limit, use))
    stat = dict(line.partition(" ")[::2] for line in (directory / "memory.stat").read_text("ascii").splitlines())
    return Memory(max(0, most - used + int(stat.get(files, 0))), most)
