"""Calling the command line in tests, and checking the mistakes of a study file."""

import sys
from collections.abc import Set
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobs.errors import Code, InvalidRequest, Mistake
from orchestrator.cli.main import main
from orchestrator.study.load import parse_study


def mistakes(text: str, path: str = "study.yaml") -> list[Mistake]:
    """Return all mistakes of a study file, in order; the error's own code and place must be those of the first."""
    with pytest.raises(InvalidRequest) as caught:
        parse_study(text, path)
    found = caught.value.mistakes
    assert (caught.value.code, caught.value.place) == (found[0].code, found[0].place)
    assert {one.place.file for one in found} == {path}
    return list(found)


def check(found: Mistake, code: Code, key: str, *values: object, line: int | None = None) -> None:
    """Require that the mistake has this code and key, and that its message contains the values."""
    assert (found.code, found.place.key) == (code, key), found
    assert line in (None, found.place.line)
    assert [value for value in values if str(value) not in found.message] == [], found.message


class Uniting(set[str]):
    """Counts how often it, or a union with it, is united with another set, which takes time in proportion to it."""

    unions = 0

    def __or__(self, value: Set[Any]) -> Any:
        Uniting.unions += 1
        return Uniting(self.union(value))


class Result(NamedTuple):
    code: int
    out: str
    message: str


class Command:
    """The command, called in this process in an empty folder.

    A new process would load torch for each call, which would take minutes.
    """

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
