"""What tests need of a machine, that not every machine has.

A test that lacks it is skipped, and a run says at its end what was therefore not proved and how it could be, in one
line each: all that skips goes through here.
"""

import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from jobs import registry
from jobs.data.places import find

FASHION_MNIST = find(registry.dataset("fmnist"))
"""Where its files are, Debian's or what this machine's user fetched: tests have homes of their own."""
PAPER = Path(__file__).parents[2] / "shared" / "paper"
"""The authors' published trials and Table 7: beside the checkout, never inside it, as they are not this project's."""


def not_proved(what: str, remedy: str) -> NoReturn:
    """Skip the test at hand.

    Args:
        what: that it would have proved.
        remedy: how to make it possible.
    """
    pytest.skip(_line(what, remedy))


def needs(possible: bool, what: str, remedy: str) -> pytest.MarkDecorator:
    """Of tests that are skipped where they are not possible; as ``not_proved``."""
    return pytest.mark.skipif(not possible, reason=_line(what, remedy))


def module(name: str, what: str, remedy: str) -> ModuleType:
    """A module that a test imports, where it is installed; as ``not_proved``."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        not_proved(what, remedy)


def _line(what: str, remedy: str) -> str:
    return f"{what}: {remedy}"


def fashion_mnist(what: str) -> Path:
    """The folder with the real Fashion-MNIST; as ``not_proved``."""
    if FASHION_MNIST is None:
        not_proved(what, "`deltasweep data fetch fmnist`, or on Debian `apt-get install dataset-fashion-mnist`")
    return FASHION_MNIST


def authors_trials(file: str, what: str) -> Path:
    """A file of the authors' published trials; as ``not_proved``."""
    path = PAPER / file
    if not path.is_file():
        not_proved(what, f"put the authors' published trials into {PAPER}")
    return path


def chromium() -> str:
    """Its command; as ``not_proved``."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        not_proved("what a browser makes of the page", "`apt-get install chromium`")
    return found


def own_file_system() -> NoReturn:
    """Say that none can be mounted."""
    not_proved("full, read-only and vanishing file systems", "run the tests as root, who may mount one")


bound_by_permissions = needs(
    os.geteuid() != 0, "what permissions refuse, which do not bind root", "run the tests as another user"
)
with_proc = needs(Path("/proc/self/statm").exists(), "how much memory a process takes", "run the tests on Linux")
with_dev_full = needs(Path("/dev/full").exists(), "a write to a full disk", "run the tests on Linux")
on_linux = needs(sys.platform == "linux", "that a process ends with its parent", "run the tests on Linux")
