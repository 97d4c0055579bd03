"""Machine-readable errors of the command line: JSON if requested, and an exit code for each error code."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.errors import Code, DeltaSweepError, InvalidRequest, MissingData, Place, StorageFailure, raise_together
from orchestrator.cli.exit_codes import ExitCode, exit_code_of, of_any
from tests.orchestrator.support import Command, Result
from tests.support import refused

WRONG = """\
name: wrong
grid: {source: [fmnist_natural], dataset: [digit], blocks: [3]}
schedule:
  - {images: [50], epochs: 0, seeds: 1, evaluate_every: 1}
recipe: {momentun: 0.5}
"""


@pytest.fixture
def root(deltasweep: Command) -> str:
    """A root in which nothing was launched."""
    (deltasweep.folder / "root").mkdir()
    return str(deltasweep.folder / "root")


def error_of(result: Result) -> dict[str, Any]:
    """Return the JSON error, the only standard error; standard output is empty."""
    assert result.out == ""
    (error,) = json.loads(result.message).values()
    assert {"code", "message", "file", "line", "key"} <= error.keys()
    assert result.code == exit_code_of(Code(error["code"]))
    return dict(error)


def test_an_unknown_study(deltasweep: Command) -> None:
    result = deltasweep("plan", "papper", "--json")
    error = error_of(result)
    assert result.code == 2
    assert deltasweep("plan", "papper").message == f"deltasweep: {error['message']}"
    assert (error["code"], "'papper'" in error["message"]) == ("unknown-name", True)
    assert "mistakes" not in error


def test_all_mistakes_of_a_study_file(deltasweep: Command) -> None:
    (deltasweep.folder / "wrong.yaml").write_text(WRONG, encoding="utf-8")
    result = deltasweep("plan", "wrong.yaml", "--json")
    error = error_of(result)
    told = [(one["code"], one["file"], one["line"], one["key"]) for one in error["mistakes"]]
    assert told == [
        ("unknown-name", "wrong.yaml", 2, "grid.dataset[0]"),
        ("wrong-value", "wrong.yaml", 4, "schedule[0].epochs"),
        ("unknown-key", "wrong.yaml", 5, "recipe.momentun"),
    ]
    assert (error["code"], error["file"], error["line"], error["key"]) == told[0]
    for one in error["mistakes"]:
        assert f"line {one['line']}: {one['key']}: {one['message']}" in error["message"]


def test_a_file_that_is_not_there(deltasweep: Command) -> None:
    error = error_of(deltasweep("plan", "nowhere.yaml", "--json"))
    assert (error["code"], error["file"], error["line"]) == ("no-such-file", "nowhere.yaml", None)


def test_no_root(deltasweep: Command) -> None:
    nowhere = str(deltasweep.folder / "nowhere")
    for arguments in (
        ("status", "--json"),
        ("resume", "--json"),
        ("logs", "0123456789abcdef", "--json"),
        ("trials", "list", "demo", "--state", "failed", "--json"),
        ("deltas", "--format", "json"),
        ("query", "SELECT 1", "--format=json"),
    ):
        error = error_of(deltasweep(*arguments, "--results", nowhere))
        assert (error["code"], error["file"], error["key"]) == ("no-root", nowhere, "--results")
        assert "does not exist" in error["message"]
    assert not Path(nowhere).exists()


def test_wrong_sql(deltasweep: Command, root: str) -> None:
    error = error_of(deltasweep("query", "SELECT nothing FROM trials", "--results", root, "--format", "json"))
    assert (error["code"], error["key"]) == ("wrong-query", "SQL")
    assert '"nothing"' in error["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "--results", "root", "--out", ""],
        ["report", "--results", "root", "--out="],
        ["data", "describe", ""],
        ["data", "split", "photos", "--out", ""],
        ["models", "train", "fmnist_natural", "--out", ""],
        ["models", "describe", "torchvision:resnet18", "--out", ""],
        ["models", "convert", "", "--as", "natural"],
        ["plan", "demo", "--builder", ""],
        ["plan", "demo", "--gpus", ""],
        ["import-trials", "", "--results", "root"],
    ],
    ids=" ".join,
)
def test_an_unset_variable_is_not_the_current_directory(deltasweep: Command, arguments: list[str]) -> None:
    (deltasweep.folder / "root").mkdir()
    result = deltasweep(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "expected a path; got empty text" in result.message
    assert [path.name for path in deltasweep.folder.iterdir()] == ["root"]


@pytest.mark.parametrize(
    ("arguments", "code", "key"),
    [
        (["plan", "demo", "--jsn", "--json"], Code.UNKNOWN_KEY, "--jsn"),
        (["plan", "--json"], Code.MISSING_KEY, "STUDY"),
        (["status", "--json"], Code.MISSING_KEY, "--results"),
        (["status", "--json", "--results"], Code.WRONG_VALUE, "--results"),
        (["status", "--results", "r", "--accept-numerics", "0", "--json"], Code.WRONG_VALUE, "--accept-numerics"),
        (["query", "--format", "json", "--results", "r"], Code.MISSING_KEY, "SQL"),
        (["deltas", "--blocks", "all", "--format", "json", "--results", "r"], Code.WRONG_VALUE, "--blocks"),
        (["plan", "demo", "twice", "--json"], Code.WRONG_VALUE, ""),
        (["no-such-verb", "--json"], Code.WRONG_VALUE, ""),
    ],
)
def test_a_command_line_that_cannot_be_understood(
    deltasweep: Command, arguments: list[str], code: Code, key: str
) -> None:
    result = deltasweep(*arguments)
    error = error_of(result)
    assert result.code == 2
    assert (error["code"], error["key"], error["file"]) == (code, key, "")
    without = [argument for argument in arguments if argument != "--json"]
    if without != arguments:
        told = deltasweep(*without)
        assert (told.out, told.message) == ("", f"deltasweep: {error['message']}"), "one line"


@pytest.mark.parametrize(
    "arguments",
    [["plan", "papper"], ["plan", "demo", "--jsn"], ["query", "SELECT 1", "--format", "csv", "--results", "nowhere"]],
)
def test_no_json_where_none_was_asked_for(deltasweep: Command, arguments: list[str]) -> None:
    result = deltasweep(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.message


def test_a_right_command_line_prints_no_error(deltasweep: Command) -> None:
    result = deltasweep("plan", "demo", "--json")
    assert (result.code, result.message) == (0, "")
    assert json.loads(result.out)["study"] == "demo"
    assert deltasweep("plan", "--help", "--json").code == 0


def test_what_may_succeed_later_has_an_exit_code_of_its_own(deltasweep: Command, root: str) -> None:
    result = deltasweep("launch", "demo", "--results", root, "--address", "127.0.0.1:1")
    assert result.code == 3
    assert "127.0.0.1:1" in result.message
    again = {code for code in Code if exit_code_of(code) is ExitCode.TRY_AGAIN}
    assert again == {Code.STORAGE, Code.OUT_OF_MEMORY, Code.NO_DOWNLOAD, Code.NO_CLUSTER, Code.IN_USE}
    assert {code for code in Code if exit_code_of(code) is ExitCode.BUG} == {Code.INTERNAL}


def test_several_errors_are_one_that_tells_all() -> None:
    first = InvalidRequest(Code.UNKNOWN_NAME, "there is no a", file="here", key="NAME")
    second = MissingData(Code.MISSING_WEIGHTS, "b is not here")
    with pytest.raises(DeltaSweepError) as caught:
        raise_together([first, second])
    error = caught.value
    assert (type(error), str(error)) == (DeltaSweepError, "there is no a\nb is not here")
    assert (error.code, error.place) == (Code.UNKNOWN_NAME, Place("here", None, "NAME"))
    assert [(one.code, one.message) for one in error.mistakes] == [
        (Code.UNKNOWN_NAME, "there is no a"),
        (Code.MISSING_WEIGHTS, "b is not here"),
    ]
    full = StorageFailure(Code.STORAGE, "the disk is full")
    with refused(Code.STORAGE, "the disk is full", kind=StorageFailure):
        raise_together([full, full])
    with pytest.raises(InvalidRequest) as caught_alone:
        raise_together([first])
    assert caught_alone.value is first
    raise_together([])


def test_of_very_many_errors_a_message_lists_the_first() -> None:
    many = [InvalidRequest(Code.UNKNOWN_NAME, f"there is no {i}") for i in range(1_234)]
    with pytest.raises(InvalidRequest) as caught:
        raise_together(many)
    lines = str(caught.value).splitlines()
    assert lines == [*(f"there is no {i}" for i in range(20)), "... and 1,214 more"]
    assert len(caught.value.mistakes) == 1_234


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore about it"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_exhausted_memory_is_no_bug(error: Exception) -> None:
    converted = of_any(error)
    assert (converted.code, exit_code_of(converted.code)) == (Code.OUT_OF_MEMORY, ExitCode.TRY_AGAIN)
    assert "\n" not in str(converted)
    assert next(iter(str(error).splitlines()), "out of memory") in str(converted)
