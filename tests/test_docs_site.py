"""The documentation site: every page is in its navigation, links fit the site, and it builds and shows offline."""

import re
from pathlib import Path

import pytest

from scripts.docs_site import ORDER, SECTIONS, BrokenSite, build, linked, navigation, rewritten, sources, stage, title

FILES = {"README.md": "index.md", "docs/how-to/a.md": "how-to/a.md", "docs/decisions/README.md": "decisions/index.md"}


def pages() -> list[str]:
    return [page for page in sources().values() if page.endswith(".md")]


def test_the_navigation_has_every_page_once() -> None:
    assert sorted(linked(navigation(pages()))) == sorted(pages())
    assert len(pages()) > 40


def test_sections_come_in_their_order() -> None:
    names = [name for entry in navigation(pages()) for name in entry]
    known = [name for name in SECTIONS.values() if name in names]
    assert names[: len(known) + 1] == ["Overview", *known]
    assert names[-3:] == ["Troubleshooting", "Glossary", "Changelog"]


def test_no_page_of_the_order_is_gone() -> None:
    stems = {part for page in pages() for part in Path(page).with_suffix("").parts}
    assert [name for name in ORDER if name not in stems] == []


def test_titles_are_the_pages_headings() -> None:
    assert title("glossary.md") == "Glossary"


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("README.md", "[a](docs/how-to/a.md#x)", "[a](how-to/a.md#x)"),
        ("docs/how-to/a.md", "[r](../../README.md#install)", "[r](../index.md#install)"),
        ("docs/how-to/a.md", "[d](../decisions)", "[d](../decisions/index.md)"),
        ("README.md", "![i](docs/how-to/a.md)", "![i](how-to/a.md)"),
        ("README.md", "[licence](LICENSE) and [code](jobs/kind.py)", "licence and code"),
        ("README.md", "[gone](docs/gone.md)", "[gone](docs/gone.md)"),
        ("README.md", "[x](https://example.org) [y](#here)", "[x](https://example.org) [y](#here)"),
        ("README.md", "`[a](LICENSE)`\n```\n[a](LICENSE)\n```", "`[a](LICENSE)`\n```\n[a](LICENSE)\n```"),
    ],
)
def test_links_are_made_relative_to_the_site(source: str, text: str, expected: str) -> None:
    assert rewritten(text, source, FILES) == expected


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    stage(tmp_path)
    site = build(tmp_path)
    html = {
        path.relative_to(site).with_suffix(".md").as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")
    }
    assert html.keys() - {"404.md"} == set(pages())
    for page, text in html.items():
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?([^\s\">]+)", text)
        loaded += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect|icon|preload)[^>]*", text)
        assert [one for one in loaded if "//" in one] == [], page
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(\"?(?:https?:)?//", styles) == []


@pytest.mark.parametrize("link", ["gone.md", "glossary.md#gone"])
def test_a_broken_link_or_anchor_fails_the_build(tmp_path: Path, link: str) -> None:
    stage(tmp_path)
    page = tmp_path / "pages" / "troubleshooting.md"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n[broken]({link})\n", encoding="utf-8")
    with pytest.raises(BrokenSite, match=r"troubleshooting\.md"):
        build(tmp_path)
