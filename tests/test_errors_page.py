"""docs/reference/errors.md matches the error codes."""

from jobs.errors import Code
from scripts.errors_page import PAGE, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.errors_page"


def test_each_code_has_a_line_with_its_exit_status() -> None:
    lines = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    assert [line[0] for line in lines] == [f"| `{code}`" for code in Code]
    assert {line[1] for line in lines if line[0] == f"| `{Code.STORAGE}`"} == {"3"}
    assert all(len(line[2]) > 20 for line in lines)


def test_codes_are_words_that_stay() -> None:
    """Programs compare error codes: codes may be added, but not removed or changed."""
    assert Code("unknown-name") is Code.UNKNOWN_NAME
    assert [code for code in Code if code.value != code.name.lower().replace("_", "-")] == []
