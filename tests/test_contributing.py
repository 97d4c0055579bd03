"""CONTRIBUTING.md, the git hooks and the templates of .github/ name what exists."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
HOOKS = ROOT / ".pre-commit-config.yaml"
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, run in the usual environment."""
    (lines,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in lines.splitlines()]


def test_the_hooks_are_the_checks_of_make() -> None:
    hooks: list[dict[str, Any]] = [
        hook for repo in yaml.safe_load(HOOKS.read_text(encoding="utf-8"))["repos"] for hook in repo["hooks"]
    ]
    assert [hook["entry"] for hook in hooks] == recipe("check")
    assert {hook["language"] for hook in hooks} == {"system"}, "nothing is downloaded"


def test_the_hooks_are_a_configuration_of_pre_commit() -> None:
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", str(HOOKS)], check=True)


def test_targets_of_make_exist() -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(re.findall(r"`[^`]+`|^    .+$", PAGE, re.MULTILINE))))
    assert {"check", "test", "test-slow", "test-cluster", "wheel"} <= named
    assert [name for name in named if not re.search(rf"^{name}:", MAKEFILE, re.MULTILINE)] == []


def test_paths_of_the_fast_loop_exist() -> None:
    rows = re.findall(r"^\| [^|]+ \| `(tests/[^`]+)` \| [^|]+ \|$", PAGE, re.MULTILINE)
    assert len(rows) > 10
    paths = [word.replace("KIND", "finetune") for row in rows for word in row.split() if word.startswith("tests/")]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_scripts_exist() -> None:
    named = set(re.findall(r"python -m scripts\.(\w+)", PAGE))
    assert named == {"add_golden_rows", "errors_page", "lock", "python_page"}
    assert [name for name in named if not (ROOT / "scripts" / f"{name}.py").is_file()] == []


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_complete(path: Path) -> None:
    """By the rules of GitHub, which drops a form that breaks one."""
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form.keys() == {"name", "description", "labels", "body"}
    questions = [item for item in form["body"] if item["type"] != "markdown"]
    assert len({item["id"] for item in questions}) == len(questions) > 0
    assert {item["type"] for item in questions} <= {"textarea", "checkboxes", "input", "dropdown"}
    assert all(item["attributes"]["label"] for item in questions)
    assert any(item.get("validations", {}).get("required") for item in questions)


def test_there_are_three_forms_and_a_template_of_pull_requests() -> None:
    assert [path.stem for path in FORMS] == ["bug", "feature", "question"]
    assert (ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md").is_file()


def test_pages_and_files_that_the_templates_name_exist() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / ".github").rglob("*.*"))
    named = set(re.findall(r"\bdocs/[\w/-]*(?:\.md)?|\b[A-Z]+\.md\b|\bpyproject\.toml\b", text))
    assert {"docs/reference/errors.md", "docs/development/extending.md", "CHANGELOG.md"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []
