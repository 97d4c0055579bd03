"""docs/reference/study-keys.md is what the models say."""

from jobs.study.model import Study
from scripts.study_keys_page import PAGE, TITLES, keys, models, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.study_keys_page"


def test_every_key_has_a_description() -> None:
    assert [f"{model}.{key}" for model, key, about in keys() if len(about.get("description", "")) < 5] == []


def test_every_key_has_a_type() -> None:
    assert "any |" not in page()


def test_every_model_has_a_heading() -> None:
    assert models().keys() == TITLES.keys()


def test_every_key_has_a_row() -> None:
    section = page().split("\n## The study file\n")[1].split("\n## ")[0]
    rows = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    assert rows == [*Study.model_fields]
