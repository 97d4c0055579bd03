"""What all tests share: a machine of their own, an empty results root, and what is said at the end of a run.

Nothing here loads torch: tests of results and of analysis do without.
"""

import gc
import os
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator
from itertools import chain
from pathlib import Path

import pytest

from jobs.results import Store, open_store
from tests.file_systems import disk, irregular

__all__ = ["disk", "irregular"]

# Ray runs its workers at the lowest priority: beside other tests their start would take minutes.
os.environ.update({"RAY_worker_niceness": "0"})
# One token for every Ray that a test joins: a process reads it once.
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})

# A shell that starts tests in the background has them, and all that they start, ignore Ctrl-C; some send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

_UNPROVEN = "unproven"
_SLOW_SECONDS = 20


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """All that collection makes stays: to look through it for garbage, again and again, took a quarter of its time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that processes that run tests beside each other end together.

    Files stay whole, but where all tests are slow: then each goes to whichever process is free, which has one more that
    waits behind it. The shortest are those, so that nothing long waits behind the longest.
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
    """What a slow test says that it takes; 0 of a quick one."""
    slow = item.get_closest_marker("slow")
    return 0 if slow is None else next(iter(slow.args), _SLOW_SECONDS)


@pytest.fixture
def unproven(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """To say at the end of the run what a test that passes could not prove here, and how to make it possible.

    What is skipped is said by its reason.
    """
    return lambda what: request.node.user_properties.append((_UNPROVEN, what))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What this machine cannot prove, and tests that take long without saying so."""
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
    """Why a test, or a whole module, was skipped."""
    assert isinstance(report.longrepr, tuple)
    return report.longrepr[2].removeprefix("Skipped: ")


def _section(terminalreporter: pytest.TerminalReporter, title: str, lines: set[str]) -> None:
    if lines:
        terminalreporter.section(title)
        for line in sorted(lines):
            terminalreporter.line(line)


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what this machine keeps for its user, or sees what a failed test left switched.

    More threads than one are no faster on networks this small, and far slower on a busy machine: what must not depend
    on their number sets another one itself.
    """
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "home"))
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
        torch.set_grad_enabled(True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty results root."""
    return open_store(tmp_path / "root")
