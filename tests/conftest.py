"""Shared by all tests: an isolated environment, an empty results root, and the summary at the end of a run.

This module does not load torch, because the tests of results and analysis run without it.
"""

import gc
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from itertools import chain
from pathlib import Path

import pytest

from jobs.results import Store, open_store
from tests.file_systems import disk, irregular
from tests.machine import END_BY, not_proved

__all__ = ["disk", "irregular"]

# By default Ray runs its workers at the lowest priority; alongside other tests, their start would take minutes.
os.environ.update({"RAY_worker_niceness": "0"})
# One token for every Ray cluster that a test joins, because a process reads it only once.
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})

# A shell that starts tests in the background makes them and their children ignore Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

_UNPROVEN = "unproven"
_SLOW_SECONDS = 20


class _Pace:
    """How much longer slow tests take in this process than they say."""

    def __init__(self) -> None:
        self._expected = self._taken = 0.0

    def add(self, expected: float, taken: float) -> None:
        self._expected += expected
        self._taken += taken

    def ends(self, expected: float) -> float:
        """When a test that says that it takes ``expected`` seconds would end, in seconds since 1970."""
        return time.time() + expected * (max(1, self._taken / self._expected) if self._expected else 1)


_PACE = _Pace()
_BEGUN = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Disable garbage collection while collecting tests.

    All objects created during collection survive it, and scanning them repeatedly took a quarter of its time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest tests first, so that parallel test processes finish at about the same time.

    The tests of one file stay together, except when all selected tests are slow: then each goes to whichever process is
    free. A process always has one more test queued; the shortest tests are queued first, so that no long test waits
    behind the longest.
    """
    seconds = {item: _expected_seconds(item) for item in items}
    if not all(seconds.values()):
        longest: dict[Path, float] = {}
        for item in items:
            longest[item.path] = max(longest.get(item.path, 0), seconds[item])
        items.sort(key=lambda item: -longest[item.path])
        return
    items.sort(key=lambda item: -seconds[item])
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if len(items) > 2 * processes:
        first, last = items[:processes], items[-processes:]
        items[:] = [*chain.from_iterable(zip(first, last, strict=True)), *items[processes:-processes]]


def _expected_seconds(item: pytest.Item) -> float:
    """Return the expected seconds given by a slow test's marker; 0 for other tests."""
    slow = item.get_closest_marker("slow")
    return 0 if slow is None else next(iter(slow.args), _SLOW_SECONDS)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test for which there is no time left."""
    if _PACE.ends(_expected_seconds(item)) > float(os.environ.get(END_BY, "inf")):
        not_proved(f"tests that would not have ended by ${END_BY}", "run them without it, or on a faster machine")
    item.stash[_BEGUN] = time.monotonic()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if (expected := _expected_seconds(item)) and _BEGUN in item.stash:
        _PACE.add(expected, time.monotonic() - item.stash[_BEGUN])


@pytest.fixture
def unproven(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that reports at the end of the run what a passing test could not prove here.

    Its argument also says how to enable the proof. Skipped tests are reported by their reason instead.
    """
    return lambda what: request.node.user_properties.append((_UNPROVEN, what))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report what could not be proved on this machine, and long tests without the ``slow`` marker."""
    found = [report for reports in terminalreporter.stats.values() for report in reports]
    reports = [report for report in found if isinstance(report, pytest.TestReport)]
    unproven = {str(what) for report in reports for name, what in report.user_properties if name == _UNPROVEN}
    skipped = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", ()))
    unproven |= {f"{reason} ({count} skipped)" for reason, count in skipped.items()}
    _section(terminalreporter, "not proved on this machine", unproven)
    long = {
        f"{report.nodeid}: {report.duration:.0f} s"
        for report in reports
        if report.when == "call" and report.duration > _SLOW_SECONDS and "slow" not in report.keywords
    }
    _section(terminalreporter, f"more than {_SLOW_SECONDS} s and not marked slow, unless the machine was busy", long)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a test or a whole module was skipped."""
    assert isinstance(report.longrepr, tuple)
    return report.longrepr[2].removeprefix("Skipped: ")


def _section(terminalreporter: pytest.TerminalReporter, title: str, lines: set[str]) -> None:
    if lines:
        terminalreporter.section(title)
        for line in sorted(lines):
            terminalreporter.line(line)


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolate each test from the user's DeltaSweep home and from torch settings left by a failed test.

    Networks this small run no faster on several threads, and far slower on a busy machine. Tests that must not depend
    on the number of threads set their own.
    """
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "home"))
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
        torch.set_grad_enabled(True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty results root."""
    return open_store(tmp_path / "root")
