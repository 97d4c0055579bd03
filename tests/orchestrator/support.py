"""The command line as tests call it."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator.cli import main


class Result(NamedTuple):
    code: int
    out: str
    message: str


class Command:
    """The command, called in this process in an empty folder: loading torch for each call would take minutes."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str) -> Result:
        self._monkeypatch.chdir(self.folder)
        self._monkeypatch.setattr(sys, "argv", ["deltasweep", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        captured = self._capsys.readouterr()
        return Result(int(caught.value.code or 0), captured.out, captured.err.strip())
