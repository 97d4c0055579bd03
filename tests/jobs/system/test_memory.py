"""Available memory as reported to a process: of a machine, and of control groups of either version."""

import resource
from pathlib import Path

import pytest

from jobs.system.memory import Memory, machine_memory

KIB = 1024
MEMINFO = (
    "MemTotal:       16000000 kB\nMemFree:          500000 kB\nMemAvailable:    9000000 kB\nHugePages_Total:       0\n"
)
MACHINE = Memory(9_000_000 * KIB, 16_000_000 * KIB)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The files of a machine without control groups."""
    write(tmp_path / "proc/meminfo", MEMINFO)
    write(tmp_path / "proc/self/cgroup", "")
    return tmp_path


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="ascii")


def group(root: Path, at: str, limit: object, used: int, files: int, version: int = 2) -> None:
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    write(root / at / names[0], limit)
    write(root / at / names[1], used)
    write(root / at / "memory.stat", f"anon 5\n{names[2]} {files}")


def test_caches_that_can_be_given_up_are_free(machine: Path) -> None:
    assert machine_memory(machine) == MACHINE


def test_a_container_has_what_its_group_leaves(machine: Path) -> None:
    """8 GB, of which 3 GB are used, including 1 GB by reclaimable files."""
    write(machine / "proc/self/cgroup", "0::/job/step")
    group(machine, "sys/fs/cgroup/job/step", 8 * 10**9, 3 * 10**9, 10**9)
    assert machine_memory(machine) == Memory(6 * 10**9, 8 * 10**9)


def test_the_tightest_of_all_groups_above_counts(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "0::/job/step")
    group(machine, "sys/fs/cgroup/job/step", "max", 10**9, 0)
    group(machine, "sys/fs/cgroup/job", 4 * 10**9, 5 * 10**9, 0)
    assert machine_memory(machine) == Memory(0, 4 * 10**9)


def test_a_container_s_group_may_lie_at_the_top(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "0::/docker/0123")
    group(machine, "sys/fs/cgroup", 2 * 10**9, 10**9, 0)
    assert machine_memory(machine) == Memory(10**9, 2 * 10**9)


def test_groups_of_version_1(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n0::/")
    group(machine, "sys/fs/cgroup/memory/job", 3 * 10**9, 2 * 10**9, 5 * 10**8, version=1)
    group(machine, "sys/fs/cgroup/memory", 2**63 - 4096, 2 * 10**9, 0, version=1)
    assert machine_memory(machine) == Memory(15 * 10**8, 3 * 10**9)


@pytest.mark.parametrize(("limit", "free"), [(2 * 10**9, 19 * 10**8), (10**7, 0), (resource.RLIM_INFINITY, None)])
def test_a_process_s_own_limit_counts(
    machine: Path, monkeypatch: pytest.MonkeyPatch, limit: int, free: int | None
) -> None:
    """``ulimit -v``, as set by batch systems: the process has 100 MB of addresses, of which few may be in memory."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: {resource.RLIMIT_AS: (limit, resource.RLIM_INFINITY)}[kind])
    monkeypatch.setattr(resource, "getpagesize", lambda: 1000)
    write(machine / "proc/self/statm", "100000 9 8 7 0 6 0")
    assert machine_memory(machine) == (MACHINE if free is None else Memory(free, limit))


@pytest.mark.parametrize("text", ["", "MemTotal: many kB", "no colon", "MemAvailable:\nMemTotal:"])
def test_a_system_that_does_not_tell_has_all_its_memory_free(text: str, machine: Path) -> None:
    write(machine / "proc/meminfo", text)
    free, total = machine_memory(machine)
    assert free == total > 0


def test_this_machine_has_some_memory() -> None:
    free, total = machine_memory()
    assert 0 < free <= total
