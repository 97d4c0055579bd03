"""Fixtures of the orchestrator's tests: commands, and small data and made weights for those that train or check."""

from pathlib import Path

import pytest

from tests.jobs.fixtures import digits, few_digits, weights
from tests.orchestrator.support import Command

__all__ = ["deltasweep", "digits", "few_digits", "weights"]


@pytest.fixture
def deltasweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    folder = tmp_path / "work"
    folder.mkdir()
    return Command(folder, capsys, monkeypatch)
