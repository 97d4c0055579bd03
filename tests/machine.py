"""Requirements of tests that not every machine meets.

A test whose requirement is missing is skipped. The end of the run reports, in one line each, what was therefore not
proved and how to enable it; all skips go through this module.
"""

import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from jobs.catalog.catalog import PACKAGED
from jobs.data.locate import find

FASHION_MNIST = find(PACKAGED.dataset("fmnist"))
"""The folder with its files, from Debian or fetched by this user; found here because each test has its own home."""
END_BY = "DELTASWEEP_TESTS_END_BY"
"""Seconds since 1970: tests that would not end by then are skipped, and the summary counts them."""
PAPER = Path(__file__).parents[2] / "shared" / "paper"
"""The authors' published trials and Table 7, beside the checkout and never inside it: they belong to another project.
"""


def not_proved(what: str, remedy: str) -> NoReturn:
    """Skip the current test.

    Args:
        what: What the test would have proved.
        remedy: How to enable it.
    """
    pytest.skip(_line(what, remedy))


def needs(possible: bool, what: str, remedy: str) -> pytest.MarkDecorator:
    """Mark tests to be skipped unless ``possible``; see ``not_proved`` for the arguments."""
    return pytest.mark.skipif(not possible, reason=_line(what, remedy))


def module(name: str, what: str, remedy: str) -> ModuleType:
    """Import and return a module; see ``not_proved`` if it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        not_proved(what, remedy)


def _line(what: str, remedy: str) -> str:
    return f"{what}: {remedy}"


def fashion_mnist(what: str) -> Path:
    """Return the folder with the real Fashion-MNIST; see ``not_proved`` if it is missing."""
    if FASHION_MNIST is None:
        not_proved(what, "`deltasweep data fetch fmnist`, or on Debian `apt-get install dataset-fashion-mnist`")
    return FASHION_MNIST


def authors_trials(file: str, what: str) -> Path:
    """Return the path of a file of the authors' published trials; see ``not_proved`` if it is missing."""
    path = PAPER / file
    if not path.is_file():
        not_proved(what, f"put the authors' published trials into {PAPER}")
    return path


def chromium() -> str:
    """Return Chromium's command; see ``not_proved`` if it is missing."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        not_proved("what a browser makes of the page", "`apt-get install chromium`")
    return found


def own_file_system() -> NoReturn:
    """Skip the current test because no file system can be mounted."""
    not_proved("full, read-only and vanishing file systems", "run the tests as root, who may mount one")


bound_by_permissions = needs(
    os.geteuid() != 0, "what permissions refuse, which do not bind root", "run the tests as another user"
)
with_proc = needs(Path("/proc/self/statm").exists(), "how much memory a process takes", "run the tests on Linux")
with_proc_environ = needs(Path("/proc/self/environ").exists(), "which GPUs Ray's daemon sees", "run the tests on Linux")
with_dev_full = needs(Path("/dev/full").exists(), "a write to a full disk", "run the tests on Linux")
on_linux = needs(sys.platform == "linux", "that a process ends with its parent", "run the tests on Linux")
