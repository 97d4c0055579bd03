"""Keeps one command running on a host: ``python -m orchestrator.supervisor --name ray -- ray start --block ...``.

Ray's cluster launcher starts Ray on a worker and looks away: a raylet that dies later is a machine that costs money and
does nothing. ``ray start --block`` ends when a part of Ray does, and on SIGTERM it drains its node first.

The call returns at once; the supervisor goes on in a session of its own and writes to ``~/.deltasweep/NAME.log``. A
later call under the same name ends it and what it had started, and takes its place: a host that a new head adopts does
not stay with the old one. It needs no systemd, which containers do not have.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.streams import dependable

FOLDER = Path("~/.deltasweep")
_LEAVING = "leaving"
PAUSE_SECONDS = 5.0
"""Before the command is started again."""
SHORT_SECONDS = 60.0
"""A run that ended sooner was in vain."""
MOST_IN_VAIN = 30
"""Runs in vain, one after another, before it gives up: the cluster is gone for good."""
LEAVE_SECONDS = 60.0
"""To a predecessor and its command to leave after SIGTERM; a raylet drains for 30 s at most."""


def announce_leaving() -> None:
    """This machine goes away: no supervisor starts its command again, or a drained node would take trials anew."""
    folder = FOLDER.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _LEAVING).touch()


def main() -> None:
    """Take the place of whoever runs under this name, and go on in the background."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.supervisor", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    folder = FOLDER.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _LEAVING).unlink(missing_ok=True)
    process_file = folder / f"{arguments.name}.pid"
    _end_predecessor(process_file)
    if os.fork():
        return
    os.setsid()
    process_file.write_text(f"{os.getpid()} {_started(os.getpid())}", encoding="utf-8")
    _redirect(folder / f"{arguments.name}.log")
    with dependable():  # a log that cannot be written must not cost a machine
        code = supervise(arguments.command)
    sys.exit(code)


def supervise(command: list[str], pause: float = PAUSE_SECONDS, most_in_vain: int = MOST_IN_VAIN) -> int:
    """Run a command again and again. Returns 0 after SIGTERM or when the machine leaves, 1 when it gave up.

    Args:
        pause: seconds between two runs.
        most_in_vain: give up after so many runs in a row that ended within ``SHORT_SECONDS``.
    """
    stopping = False
    child: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        if child is not None:
            child.terminate()

    signal.signal(signal.SIGTERM, stop)
    in_vain = 0
    while not stopping and in_vain < most_in_vain:
        begun = time.monotonic()
        child = subprocess.Popen(command)
        if stopping:  # the signal came while it started
            child.terminate()
        code = child.wait()
        seconds = time.monotonic() - begun
        in_vain = in_vain + 1 if seconds < SHORT_SECONDS else 0
        print(f"{command[0]} ended with {code} after {seconds:.0f} s", flush=True)
        stopping = stopping or (FOLDER.expanduser() / _LEAVING).exists()
        if not stopping:
            time.sleep(pause)
    return 0 if stopping else 1


def _end_predecessor(process_file: Path) -> None:
    """SIGTERM to the process in the file, in the end SIGKILL to its session; a pid that was given again is let be."""
    try:
        pid, started = map(int, process_file.read_text(encoding="utf-8").split())
    except (FileNotFoundError, ValueError):
        return
    deadline = time.monotonic() + LEAVE_SECONDS
    while _started(pid) == started:
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)


def _started(pid: int) -> int | None:
    """When a process started, in ticks since boot: with the pid, its identity. None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _redirect(log: Path) -> None:
    """Standard input from nowhere, output and errors into the log, so that an ssh session can end."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nowhere, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


if __name__ == "__main__":
    main()
