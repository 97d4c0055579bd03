"""Where this machine's files are, as the environment says it."""

from pathlib import Path

import pytest

from jobs.errors import Code
from jobs.paths import VARIABLE, data_directory, expanded, make_home_absolute, weights_directory
from tests.support import refused


def test_a_relative_home_is_the_same_for_actors_that_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "cache")
    make_home_absolute()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert data_directory() == tmp_path / "cache" / "data"


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_home_is_none(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, empty)
    make_home_absolute()
    assert weights_directory() == tmp_path / ".cache" / "deltasweep" / "weights"


def test_the_home_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "~nobody-here/cache")
    with refused(Code.WRONG_PLACE, "~nobody-here/cache", key=VARIABLE, file="~nobody-here/cache"):
        data_directory()
    with refused(Code.WRONG_PLACE, "~nobody-here/x", key="--out", file="~nobody-here/x"):
        expanded("~nobody-here/x", "--out")
