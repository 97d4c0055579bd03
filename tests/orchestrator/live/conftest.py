"""Fixtures of the tests of the live page: half of a study, a watch that looks at it, and a client of its page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from jobs.results import LocalStore
from orchestrator.live import watch as watching
from orchestrator.live.watch import Watch
from tests.orchestrator.live.roots import TRAP, Sweep, client, watched


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def sweep(root: Path) -> Sweep:
    """Half of a study: finished, running and failed trials."""
    made = Sweep(LocalStore(root))
    made.commit(*made.specs[:14])
    made.beat(*made.specs[14:17])
    made.checkpoint(made.specs[14])
    made.fail(made.specs[17], f"it broke {TRAP}", f"line one\n{TRAP}\x1b[31m\n")
    return made


@pytest.fixture
def watch(sweep: Sweep) -> Iterator[Watch]:
    made = watched(sweep.store)
    yield made
    made.close()


@pytest.fixture
def page(watch: Watch) -> TestClient:
    return client(watch)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the root all the time."""
    monkeypatch.setattr(watching, "_SOONEST", 0.05)
    monkeypatch.setattr(watching, "SHARE", 1.0)
