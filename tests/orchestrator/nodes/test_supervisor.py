"""The supervisor: restarts a command that ended, replaces its predecessor, and leaves on SIGTERM."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.nodes.supervisor import announce_leaving
from tests.durability.processes import alive, find, wait_until

WRITE_AND_WAIT = "echo $$ >> {folder}/pids; exec sleep 300"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def supervise(folder: Path, script: str) -> None:
    """Start the supervisor and return at once; it is then detached from this process."""
    command = [sys.executable, "-m", "orchestrator.nodes.supervisor", "--name", "test", "--", "sh", "-c", script]
    subprocess.run(command, check=True, timeout=60, cwd=Path(__file__).parents[3])


def pids(folder: Path) -> list[int]:
    file = folder / "pids"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def end(folder: Path) -> None:
    """Send SIGTERM to the supervisor, and wait until it and its command have ended."""
    supervisor = find(int((folder / ".deltasweep" / "test.pid").read_text().split()[0]))
    command = find(pids(folder)[-1])
    os.kill(supervisor.pid, signal.SIGTERM)
    wait_until(lambda: not alive(supervisor) and not alive(command), "both have left", 30)


def test_what_ends_is_started_again(tmp_path: Path) -> None:
    supervise(tmp_path, WRITE_AND_WAIT.format(folder=tmp_path))
    (first,) = wait_until(lambda: pids(tmp_path), "it runs")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(pids(tmp_path)) == 2, "it runs again", 60)
    end(tmp_path)
    assert len(pids(tmp_path)) == 2
    assert "sh exited with -9" in (tmp_path / ".deltasweep" / "test.log").read_text()


def test_a_later_call_takes_the_place(tmp_path: Path) -> None:
    """The first supervisor's command has ended; only the second's runs."""
    supervise(tmp_path, WRITE_AND_WAIT.format(folder=tmp_path))
    (pid,) = wait_until(lambda: pids(tmp_path), "the first runs")
    first = find(pid)
    supervise(tmp_path, WRITE_AND_WAIT.format(folder=tmp_path))
    wait_until(lambda: len(pids(tmp_path)) == 2, "the second runs")
    assert not alive(first)
    end(tmp_path)


def test_a_machine_that_leaves_starts_nothing_again(tmp_path: Path) -> None:
    """After a spot notice, Ray ends once its node has drained; if restarted, it would accept trials until the end."""
    supervise(tmp_path, WRITE_AND_WAIT.format(folder=tmp_path))
    (pid,) = wait_until(lambda: pids(tmp_path), "it runs")
    supervisor = find(int((tmp_path / ".deltasweep" / "test.pid").read_text().split()[0]))
    announce_leaving()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(supervisor), "the supervisor has left", 30)
    assert pids(tmp_path) == [pid]


def test_it_gives_up_when_all_is_in_vain(tmp_path: Path) -> None:
    """The supervisor does not try forever to reach a cluster that is gone for good."""
    code = (
        "from orchestrator.nodes.supervisor import supervise; "
        f"raise SystemExit(supervise(['sh', '-c', 'echo x >> {tmp_path}/runs; exit 3'], pause=0, most_in_vain=4))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], timeout=60, check=False)
    assert done.returncode == 1
    assert len((tmp_path / "runs").read_text().split()) == 4
