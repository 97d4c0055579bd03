"""A process that must end with its parent does so, even if neither can do anything about it any more."""

import os
import signal
import subprocess
import sys

from tests.durability.processes import alive, find, wait_until
from tests.machine import on_linux

CHILD = """
import os, signal, sys
from jobs.system.parentage import end_with
end_with(int(sys.argv[1]))
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
PARENT = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}, str(os.getpid())])"


@on_linux
def test_a_stopped_process_ends_with_a_killed_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = find(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not alive(child), "the child ended", 30)


@on_linux
def test_one_that_comes_too_late_ends_at_once() -> None:
    ended = subprocess.run([sys.executable, "-c", CHILD, "1"], check=False, capture_output=True)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")
