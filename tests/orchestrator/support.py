"""The command line as tests call it, and what is wrong with a study file."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from jobs.errors import Code, InvalidRequest, Mistake
from orchestrator.cli import main
from orchestrator.study_files import parse_study


def mistakes(text: str, path: str = "study.yaml") -> list[Mistake]:
    """All that a study file is refused for, in order; the error's own code and place are those of the first."""
    with pytest.raises(InvalidRequest) as caught:
        parse_study(text, path)
    found = caught.value.mistakes
    assert (caught.value.code, caught.value.place) == (found[0].code, found[0].place)
    assert {one.place.file for one in found} == {path}
    return list(found)


def check(found: Mistake, code: Code, key: str, *values: object, line: int | None = None) -> None:
    """It is of this code, about this key of the file, and tells what a person must find in it."""
    assert (found.code, found.place.key) == (code, key), found
    assert line in (None, found.place.line)
    assert [value for value in values if str(value) not in found.message] == [], found.message


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
