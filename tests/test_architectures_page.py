"""docs/reference/architectures.md matches the packaged architectures."""

from scripts.architectures_page import PAGE, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.architectures_page"
