"""Comments cite pages of docs/ that exist, and each decision has a complete record that the index lists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs" / "decisions"
RECORDS = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")
SUFFIXES = {".py", ".md", ".yaml", ".toml", ".html", ".ipynb"}
SKIPPED = {".venv", ".git", "node_modules", "build", "dist", "__pycache__"}
FILES = sorted(
    path
    for name in ("deltasweep", "orchestrator", "jobs", "analysis", "tests", "benchmarks", "scripts", "docs", "examples")
    for path in (ROOT / name).rglob("*")
    if path.suffix in SUFFIXES and not SKIPPED.intersection(path.parts) and path != Path(__file__)
) + sorted(path for path in ROOT.iterdir() if path.suffix in SUFFIXES)

_DESIGN = re.compile(
    r"\(design\b|\bdesign(?:'s)?,? (?:section|promise)|\bof the design\b|\bDESIGN\.md\b", re.IGNORECASE
)
"""A document that the repository does not contain."""
_PAGE = re.compile(r"\bdocs/[\w./-]+\.md\b")


def test_no_file_cites_the_design() -> None:
    assert [f"{path}: {match[0]}" for path in FILES for match in _DESIGN.finditer(path.read_text("utf-8"))] == []


def test_such_a_citation_is_found() -> None:
    for text in ("an id (design, section 1)", "the design's promise 1 holds", "Section 6 of the design", "DESIGN.md"):
        assert _DESIGN.search(text), text
    assert not _DESIGN.search("It was measured while this was designed.")


def test_pages_that_files_cite_exist() -> None:
    files = [
        path for path in FILES if path.name not in ("test_docs.py", "test_docs_site.py")
    ]  # these cite made-up pages
    cited = {(page, path) for path in files for page in _PAGE.findall(path.read_text("utf-8"))}
    assert len(cited) > 30
    assert [f"{path}: {page}" for page, path in sorted(cited) if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_record_is_complete_and_listed(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    (date,) = re.findall(r"^Date: (\d{1,2} [A-Z][a-z]+ \d{4})[.;]", text, re.MULTILINE)
    (row,) = re.findall(rf"^\| \[.+\]\({record.name}\) \| .+ \| (.+) \|$", (DECISIONS / "README.md").read_text(), re.M)
    assert row == date
