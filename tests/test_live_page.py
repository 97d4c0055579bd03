"""docs/reference/live-page.md matches the pages."""

from orchestrator.live.pages import PAGES
from scripts.live_page import PAGE, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.live_page"


def test_each_page_has_a_line() -> None:
    lines = [line.split(" | ")[0] for line in page().splitlines()]
    assert [line for line in lines if line.startswith("| `/")][: len(PAGES)] == [
        f"| `{one.path.replace('{trial}', 'TRIAL')}`" for one in PAGES
    ]
