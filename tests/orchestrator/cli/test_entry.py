"""Signals at the start of a command, while its modules are being imported, and at its end."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3]
STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HEADER = """
import importlib.abc, os, signal, sys

class Sender(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Sender())
for number in (signal.SIGTERM, signal.SIGHUP):  # what runs the tests may ignore them: nohup does
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal({ignored}, signal.SIG_IGN)
sys.argv[:] = ["deltasweep", "plan", "--help"]
"""


def ended(module: str, number: int, ignored: int = signal.SIGUSR1, more: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command and send it a signal when it begins to import a module."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))
    entry, function = project["project"]["scripts"]["deltasweep"].split(":")
    code = HEADER.format(module=module, number=int(number), ignored=int(ignored)) + more
    code += f"from {entry} import {function}\n{function}()\n"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCE, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("orchestrator.cli.main", signal.SIGHUP),
        ("typer", signal.SIGINT),
        ("orchestrator.process.terminal", signal.SIGTERM),
    ],
)
def test_a_signal_while_modules_are_imported_is_one_line(module: str, number: signal.Signals) -> None:
    done = ended(module, number)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "deltasweep: interrupted\n")


def test_one_that_is_ignored_stays_so() -> None:
    done = ended("typer", signal.SIGHUP, signal.SIGHUP)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: deltasweep plan" in done.stdout


@pytest.mark.parametrize("number", STOP)
def test_a_signal_after_the_work_has_nothing_to_say(number: signal.Signals) -> None:
    """The signal arrives while Python is shutting down."""
    more = f"import atexit\natexit.register(lambda: os.kill(os.getpid(), {int(number)}))\n"
    done = ended("none", number, more=more)
    assert (done.returncode, done.stderr) == (-number, "")
    assert "Usage: deltasweep plan" in done.stdout
