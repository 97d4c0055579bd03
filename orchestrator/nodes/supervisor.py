"""Keep one command running on a host: ``python -m orchestrator.nodes.supervisor --name ray -- ray start --block ...``.

Ray's cluster launcher starts Ray on a worker and does not monitor it. If the raylet dies later, the machine costs money
and does nothing. ``ray start --block`` exits when any process of Ray does; on SIGTERM it first drains its node.

The call returns immediately. The supervisor continues in a separate session and writes to ``~/.deltasweep/NAME.log``. A
later call with the same name stops the previous supervisor and its command and replaces them, so that a host adopted by
a new head node leaves the old one. It does not need systemd, which containers lack.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.process.streams import dependable

FOLDER = Path("~/.deltasweep")
_LEAVING = "leaving"
PAUSE_SECONDS = 5.0
"""Delay before the command is restarted."""
SHORT_SECONDS = 60.0
"""A run shorter than this counts as failed."""
MOST_IN_VAIN = 30
"""Consecutive failed runs after which the supervisor gives up, because the cluster is gone for good."""
LEAVE_SECONDS = 60.0
"""Time for a predecessor and its command to exit after SIGTERM. A raylet drains for at most 30 s."""


def announce_leaving() -> None:
    """Keep supervisors on this machine from restarting their commands, or a drained node would accept trials again."""
    folder = FOLDER.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _LEAVING).touch()


def main() -> None:
    """Replace a supervisor of the same name, if there is one, and continue in the background."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.nodes.supervisor", description=__doc__)
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
    with dependable():  # failures to write the log must not stop the supervisor
        code = supervise(arguments.command)
    sys.exit(code)


def supervise(command: list[str], pause: float = PAUSE_SECONDS, most_in_vain: int = MOST_IN_VAIN) -> int:
    """Run a command and restart it whenever it exits.

    Args:
        pause: Seconds between two runs.
        most_in_vain: Number of consecutive runs shorter than ``SHORT_SECONDS`` after which to give up.

    Returns:
        0 after SIGTERM or when the machine is being drained, 1 after giving up.
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
        child = subprocess.Popen(command, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
        if stopping:  # the signal arrived while the command was starting
            child.terminate()
        code = child.wait()
        seconds = time.monotonic() - begun
        in_vain = in_vain + 1 if seconds < SHORT_SECONDS else 0
        print(f"{command[0]} exited with {code} after {seconds:.0f} s", flush=True)
        stopping = stopping or (FOLDER.expanduser() / _LEAVING).exists()
        if not stopping:
            time.sleep(pause)
    return 0 if stopping else 1


def _end_predecessor(process_file: Path) -> None:
    """Send SIGTERM to the process in the file and, after ``LEAVE_SECONDS``, SIGKILL to its session.

    A reused pid is left alone.
    """
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
    """Return a process's start time in ticks since boot, which identifies it with its pid. None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _redirect(log: Path) -> None:
    """Redirect standard input to /dev/null, and output and errors to the log, so that an ssh session can end."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nowhere, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


if __name__ == "__main__":
    main()
