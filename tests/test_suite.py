"""Rules for the tests themselves."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import END_BY

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_nothing_is_imported_from_a_test(module: Path) -> None:
    """Shared code must be a fixture, or in a module that is not a test."""
    imports = [
        node.module or "" for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)
    ]
    assert not [
        name for name in imports if name.startswith("tests.") and (".test_" in name or name.endswith(".conftest"))
    ]


def test_tests_of_results_and_analysis_load_no_torch() -> None:
    """Nor other modules that are slow to load: a change to a table is tested in seconds."""
    program = (
        "import sys, pytest\n"
        "code = pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', '-W', 'default', *sys.argv[1:]])\n"
        "heavy = [name for name in ('torch', 'sklearn', 'ray', 'robustness') if name in sys.modules]\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    folders = [str(TESTS / name) for name in ("analysis", "results", "contracts")]
    done = subprocess.run([sys.executable, "-c", program, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SKIPS = {"skip", "skipif", "importorskip"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_what_is_skipped_says_how_it_could_be_proved(module: Path) -> None:
    """Only one module skips tests; its reasons give both what is not proved and how to enable it."""
    attributes = [node.attr for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Attribute)]
    assert module == TESTS / "machine.py" or not SKIPS.intersection(attributes)


CHANCE = {"now", "utcnow", "today", "time", "time_ns", "uuid4", "token_hex", "getpid"}


@pytest.mark.parametrize(
    "module", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.relative_to(TESTS).as_posix()
)
def test_what_tests_are_there_does_not_depend_on_the_clock(module: Path) -> None:
    """Nor on the process: parallel test processes must collect the same tests under the same names."""
    waiting: list[ast.AST] = [ast.parse(module.read_text())]
    called = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called.add(node.func.attr)
        if isinstance(node, ast.FunctionDef):
            waiting += node.decorator_list  # the body runs later
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    assert not called & CHANCE


def test_tests_without_time_left_are_skipped_and_counted() -> None:
    """Slow ones say how long they take: one that would end after the deadline does not begin."""
    file = "tests/results/test_kills.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    environment = {**os.environ, END_BY: "0"}
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"${END_BY}" in done.stdout
    assert "skipped" in done.stdout
    assert "passed" not in done.stdout
