"""Fixtures of the orchestrator's tests."""

from pathlib import Path

import pytest

from tests.orchestrator.support import Command


@pytest.fixture
def deltasweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    folder = tmp_path / "work"
    folder.mkdir()
    return Command(folder, capsys, monkeypatch)
