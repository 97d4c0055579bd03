"""Text of strangers in messages: on one line, of limited length, and quoted in commands."""

import ast
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.system.commands import command
from jobs.system.printable import brief, listing, shown
from jobs.system.similar import close_matches

LONG = "x" * 1_000_000
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "value",
    ["a", "it's", "a\nb", 5, -1.5, True, None, [], [1, "a"], {"a": [1], 2: None}, (1, 2), {"a": {"b": "c"}}, b"a", {1}],
)
def test_short_values_are_shown_as_they_are_written(value: object) -> None:
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [LONG, [LONG] * 1_000_000, {"a": [{"b": LONG}] * 100_000}, 1 << 20_000_000, [[[[LONG]]]], {LONG: 1}, LONG.encode()],
    ids=["text", "list", "dictionary", "integer", "nested", "key", "bytes"],
)
def test_long_values_are_shortened(value: object) -> None:
    """Some of them would be terabytes, and Python refuses to write out the integer."""
    assert len(shown(value)) < 300


def test_messages_are_one_line_of_limited_length() -> None:
    assert brief("a\n  line 1: forged\r\nb") == "a\\u000a  line 1: forged\\u000ab"
    assert brief(LONG) == f"{'x' * 2_000}..."


def test_listings_have_limits() -> None:
    assert listing(["a", 1, True, 0.5]) == "a, 1, True, 0.5"
    assert listing(range(5), most=3) == "0, 1, 2, ..."
    assert len(listing([[LONG] * 100_000] * 100_000)) < 30_000


@pytest.mark.parametrize(
    "name", ["a; curl evil | sh", "$(touch x)", "`id`", "it's", "a b", "-x", "*", "~/x", "a&b", "", "#", "a\\b"]
)
def test_names_in_commands_are_single_arguments(name: str) -> None:
    assert shlex.split(command("models", "fetch", name)) == ["deltasweep", "models", "fetch", name]


def test_commands_are_one_line_and_keep_their_placeholders() -> None:
    assert command("models", "train", "NAME", "--study", "STUDY") == "deltasweep models train NAME --study STUDY"
    assert command("plan", "a\nrm -rf ~") == "deltasweep plan 'a\\u000arm -rf ~'"


def test_names_are_compared_unless_they_are_very_long_or_many() -> None:
    known = ["fmnist_natural", "fmnist_l2_eps1", LONG]
    assert close_matches("fmnist_natura", known, 1) == ["fmnist_natural"]
    assert close_matches(LONG, known) == []
    assert close_matches("fmnist_natura", [f"fmnist_natural{number}" for number in range(1_000_000)]) == []


PACKAGES = [ROOT / name for name in ("jobs", "orchestrator", "analysis", "deltasweep")]
BEGUN = re.compile(r"\bdeltasweep [a-z][a-z-]*( [\w-]+)* ['\"]?$")
"""The beginning of a command, up to a value that follows."""


def test_commands_with_values_are_made_in_one_place() -> None:
    """A text in which a value follows ``deltasweep data fetch`` quotes nothing."""
    texts = [
        (file, node.lineno, [part.value if isinstance(part, ast.Constant) else None for part in node.values])
        for package in PACKAGES
        for file in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
    ]
    assert len(texts) > 500
    followed = [
        f"{file.relative_to(ROOT)}:{line}"
        for file, line, parts in texts
        for before, after in pairwise(parts)
        if isinstance(before, str) and after is None and BEGUN.search(before)
    ]
    assert followed == []
