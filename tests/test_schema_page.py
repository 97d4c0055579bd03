"""docs/reference/schema.md matches the schema, and its examples read a results root without DeltaSweep."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import analysis
from scripts.schema_page import PAGE, page

ROOTS = Path(__file__).parent / "roots"
EXAMPLES = dict(re.findall(r"\n(DuckDB|polars|pandas):\n\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL))


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.schema_page"


def test_there_is_an_example_of_each() -> None:
    assert set(EXAMPLES) == {"DuckDB", "polars", "pandas"}


@pytest.mark.parametrize("library", sorted(EXAMPLES))
def test_examples_give_what_a_query_gives(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tested on the results root of a release, which also contains imported trials."""
    shutil.copytree(ROOTS / "0.1.0", tmp_path / "demo-results")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(EXAMPLES[library], names)  # the example from the page
    cell = "source, dataset, blocks, images, epochs, recipe, numerics"
    sql = f"SELECT {cell}, avg(test_accuracy) FROM trials WHERE origin = 'run' GROUP BY ALL ORDER BY ALL"
    expected = [tuple(row.values()) for row in analysis.query("demo-results", sql).to_pylist()]
    assert len(expected) > 2
    assert [(*of, pytest.approx(accuracy)) for *of, accuracy in expected] == names["found"]
