"""Processes by their parentage in /proc, limited to those that a test started."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 300.0
"""Time limit of a condition on a busy machine."""


class Process(NamedTuple):
    """One process; the combination of pid and start time is never reused."""

    pid: int
    started: int
    parent: int

    @property
    def command(self) -> str:
        """Return the current command line, or the name the process gave itself; "" if it has ended."""
        try:
            line = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return line.replace(b"\0", b" ").decode(errors="replace").strip()


def wait_until(condition: Callable[[], T | None], what: str, patience: float = PATIENCE_SECONDS) -> T:
    """Poll until the condition is true and return its value."""
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain: {what}"
        time.sleep(0.1)
    return answer


def descendants(root: int) -> list[Process]:
    """Return all descendants of ``root``, parents before their children, without zombies."""
    children: dict[int, list[Process]] = {}
    for process in _all():
        children.setdefault(process.parent, []).append(process)
    found = list(children.get(root, []))
    for process in found:
        found += children.get(process.pid, [])
    return found


def find(pid: int) -> Process:
    """Return the process that has this pid now."""
    found = _read(pid)
    assert found is not None, f"there is no process {pid}"
    return found


def alive(process: Process) -> bool:
    """Return whether exactly this process is still running."""
    now = _read(process.pid)
    return now is not None and now.started == process.started


def kill(process: Process) -> None:
    """Send SIGKILL if the process still exists."""
    if alive(process):
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _all() -> list[Process]:
    found = [_read(int(name)) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  # called very often
    return [process for process in found if process is not None]


def _read(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123  # called very often
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rsplit(b")", 1)[1].split()
    return None if fields[0] in (b"Z", b"X") else Process(pid, int(fields[19]), int(fields[1]))
