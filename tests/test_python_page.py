"""docs/reference/python.md is what the package ``deltasweep`` says of itself."""

import deltasweep
from scripts.python_page import PAGE, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.python_page"


def test_every_name_is_described() -> None:
    text = page()
    sections = [name for name in deltasweep.__all__ if f"\n## {name}\n" not in text]
    assert [name for name in sections if f"| `ds.{name}` |" not in text] == []
    assert "| |" not in text
