"""The pages of the documentation, and what they consist of."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.rglob("*/README.md"))
    if not {".venv", "node_modules", "build"} & set(path.parts) and "roots" not in path.parts
)
"""Every page that describes the present code. The changelog describes earlier versions, too."""
CHANGELOG = ROOT / "CHANGELOG.md"


class Block(NamedTuple):
    """A block of code in a page."""

    page: str
    language: str
    """Empty where the page does not name it, such as in indented blocks."""
    text: str


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """All blocks of code of a page, fenced or indented."""
    text = page.read_text(encoding="utf-8")
    fenced = [
        Block(name(page), language, body) for language, body in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)
    ]
    rest = re.sub(r"```\w*\n.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"(?:^|\n)\n((?: {4}[^\n]*\n)+)", rest)
    return fenced + [Block(name(page), "", re.sub(r"^ {4}", "", body, flags=re.MULTILINE)) for body in indented]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def links(page: Path) -> list[str]:
    """The targets of a page's links and images that are in the repository."""
    without_code = re.sub(r"`[^`\n]*`", "code", prose(page))
    targets = re.findall(r"\]\(([^()\s]+)\)", without_code)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
        anchor = re.sub(r" ", "-", words.strip())
        found.add(f"{anchor}-{sum(each.startswith(anchor) for each in found)}" if anchor in found else anchor)
    return found


def broken_links(page: Path, targets: list[str] | None = None) -> list[str]:
    """The links of a page to files or headings that do not exist."""
    broken = []
    for target in links(page) if targets is None else targets:
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        exists = file.exists() and (not anchor or (file.suffix == ".md" and anchor in anchors(file)))
        if not exists:
            broken.append(target)
    return broken
