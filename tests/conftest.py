"""What all tests share: a machine of their own, an empty results root, and what is said at the end of a run.

Nothing here loads torch: tests of results and of analysis do without.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.results import Store, open_store

# A shell that starts tests in the background has them, and all that they start, ignore Ctrl-C; some send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

_UNPROVEN = "unproven"


@pytest.fixture
def unproven(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """To say at the end of the run what could not be proved here, and how to make it possible."""
    return lambda what: request.node.user_properties.append((_UNPROVEN, what))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    properties = [prop for report in reports for prop in getattr(report, "user_properties", ())]
    if said := sorted({what for name, what in properties if name == _UNPROVEN}):
        terminalreporter.section("not proved on this machine")
        for line in said:
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
