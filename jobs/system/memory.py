"""Memory available to a process, given the machine, its container or batch job, and its own limit. No torch."""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from jobs.system.control_groups import control_groups

GPU_RUNTIME_BYTES = 0.6e9
"""Assumed GPU memory of CUDA and its libraries, in bytes per process. Torch's allocator does not manage it."""


class Memory(NamedTuple):
    """Amounts of memory, in bytes."""

    free: int
    """Available memory, including file caches that can be dropped."""
    total: int


def machine_memory(root: Path = Path("/")) -> Memory:
    """Return the memory available to this process: the minimum over the machine, the process's control groups (of a
    container or batch job), and its own limit (``ulimit -v``).

    Args:
        root: the parent directory of ``proc`` and ``sys``. Without them (not on Linux) all memory counts as free.
    """
    limits = [_of_machine(root), *_of_groups(root), *_of_process(root)]
    return Memory(min(limit.free for limit in limits), min(limit.total for limit in limits))


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
"""By cgroup version: the files with limit and usage, and the ``memory.stat`` key of file caches that can be dropped."""


def _of_groups(root: Path) -> Iterator[Memory]:
    """Yield the memory of this process's control groups, where they have a limit."""
    for group in control_groups("memory", root):
        with suppress(OSError, ValueError):  # no such group here, or no limit ("max")
            yield _of_group(group.directory, *_FILES[group.version])


def _of_process(root: Path) -> Iterator[Memory]:
    """Yield the memory left in this process's address space, if it has a limit."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        with suppress(OSError, ValueError, IndexError):
            used = int((root / "proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
            yield Memory(max(0, most - used), most)


def _of_group(directory: Path, limit: str, use: str, files: str) -> Memory:
    most, used = (int((directory / name).read_text("ascii")) for name in (limit, use))
    stat = dict(line.partition(" ")[::2] for line in (directory / "memory.stat").read_text("ascii").splitlines())
    return Memory(max(0, most - used + int(stat.get(files, 0))), most)
