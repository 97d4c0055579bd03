"""Deltas and answers to SQL: those of the command line, with units, in a form that notebooks show."""

import builtins
import re
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import analysis
import deltasweep as ds
from jobs.errors import Code, InvalidRequest
from tests.support import refused


def test_deltas_are_those_of_the_analysis(finished: Path) -> None:
    table = ds.deltas(finished)
    assert table.arrow.equals(analysis.deltas(finished))
    assert (len(table), table["n_pairs"].to_pylist()) == (2, [2, 2])
    assert table.units["mean_delta"] == table.units["ci_low"] == "percentage points"
    assert len(ds.deltas(finished, "fmnist_natural", "small", source="fmnist_l2_eps1", images=20, epoch=1)) == 1


def test_numbers_in_other_forms_are_those_numbers(finished: Path) -> None:
    whole = ds.deltas(finished, images=20, blocks=0, epoch=1).arrow
    for images in (np.int64(20), 20.0, "20", [np.int32(20)], np.array([20]), pd.Series([20])):
        assert ds.deltas(finished, images=images, blocks="0", epoch="1").arrow.equals(whole)  # type: ignore[arg-type]  # what users may pass
    assert ds.deltas(finished, epoch=np.int64(1), images="20").arrow.equals(whole)  # type: ignore[arg-type]
    with refused(Code.UNKNOWN_NAME, "20.5", "available: 20, 40", kind=InvalidRequest, key="images"):
        ds.deltas(finished, images=20.5)  # type: ignore[arg-type]
    with refused(Code.WRONG_VALUE, "'latest'", kind=InvalidRequest, key="--epoch"):
        ds.deltas(finished, epoch="latest")


def test_a_table_is_a_mapping_of_columns_as_in_pandas(finished: Path) -> None:
    answer = ds.query(finished, "SELECT source, images FROM trials")
    assert [*answer] == answer.columns == [*answer.to_pandas()]
    assert ("source" in answer, "dataset" in answer, 0 in answer) == (True, False, False)


def test_an_answer_keeps_its_units(finished: Path) -> None:
    sql = "SELECT source, avg(test_accuracy) AS mean, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL"
    answer = ds.query(finished, sql)
    assert answer.arrow.equals(analysis.query(finished, sql))
    assert (answer.columns, answer.units) == (["source", "mean", "n"], {"mean": "percent"})


def test_tables_go_to_pandas_polars_and_arrow(finished: Path) -> None:
    answer = ds.query(finished, "SELECT source, images FROM trials ORDER BY ALL")
    assert answer.to_pandas()["images"].tolist() == answer["images"].to_pylist() == [20, 20, 40, 40] * 2
    assert answer.to_polars().equals(pl.DataFrame(answer))
    assert answer.to_polars()["source"].to_list() == answer["source"].to_pylist()
    assert pa.table(answer).equals(answer.arrow)
    assert duckdb.from_arrow(answer).shape == (8, 2)


def test_polars_is_missing_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without_polars(name: str, *others: Any) -> Any:
        if name == "polars":
            raise ModuleNotFoundError("No module named 'polars'", name="polars")
        return imported(name, *others)

    monkeypatch.delitem(sys.modules, "polars")
    monkeypatch.setattr(builtins, "__import__", without_polars)
    with refused(Code.UNUSABLE_PACKAGE, "pip install polars", kind=InvalidRequest, key="polars"):
        ds.Table(pa.table({"a": [1]})).to_polars()


def test_the_root_of_the_environment_counts(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASWEEP_RESULTS", str(finished))
    assert len(ds.deltas()) == 2
    assert ds.query(sql="SELECT count(*) AS n FROM trials")["n"].to_pylist() == [8]


def test_what_cannot_be_answered(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELTASWEEP_RESULTS", raising=False)
    with refused(Code.MISSING_KEY, "$DELTASWEEP_RESULTS", kind=InvalidRequest, key="results"):
        ds.deltas()
    with refused(Code.MISSING_KEY, "query(results, sql)", kind=InvalidRequest, key="sql"):
        ds.query("SELECT 1")
    with refused(Code.NO_ROOT, tmp_path / "typo", kind=InvalidRequest):
        ds.deltas(tmp_path / "typo")
    with refused(Code.WRONG_QUERY, "tests", kind=InvalidRequest, key="SQL"):
        ds.query(finished, "SELECT * FROM tests")
    with refused(Code.UNKNOWN_NAME, "mean_delta", kind=InvalidRequest, key="mean"):
        ds.deltas(finished)["mean"]


def test_a_notebook_shows_units_and_what_the_terminal_shows(finished: Path) -> None:
    html = ds.query(finished, "SELECT source, avg(test_accuracy) AS mean FROM trials GROUP BY ALL")._repr_html_()
    assert re.search(r"<th[^>]*>mean<br><span[^>]*>percent</span></th>", html)
    assert "2 rows, 2 columns" in html
    assert "<span" not in ds.query(finished, "SELECT images FROM trials")._repr_html_(), "images are in images"
    table = ds.deltas(finished)
    for shown in (table._repr_html_(), repr(table)):
        assert "percentage points" in shown
        assert "p (Holm)" in shown
        for value in table["mean_delta"].to_pylist():
            assert f"{value:+.2f}" in shown


def test_texts_of_strangers_are_text() -> None:
    evil = "<script>alert(1)</script>\x1b[31m\u202e"
    field = pa.field(evil, pa.string(), metadata={"unit": f"{evil}s"})
    html = ds.Table(pa.table([pa.array([evil])], schema=pa.schema([field])))._repr_html_()
    assert "<script" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    shown = repr(ds.Table(pa.table({"a": ["x\nrobust  99.9"], "b\nc": ["d"]})))
    assert len(shown.splitlines()) == 3


def test_long_and_wide_tables_are_shown_in_part() -> None:
    table = ds.Table(pa.table({f"column{number}": list(range(1000)) for number in range(40)}))
    shown = repr(table).splitlines()
    assert len(shown) < 50
    assert max(map(len, shown[:-2])) <= 120
    assert "960 more rows are not shown" in repr(table)
    assert "column39" in shown[-2]
    html = table._repr_html_()
    assert html.count("<tr>") == 41
    assert "column39" in html
    assert "1,000 rows, 40 columns" in html


def test_any_table_of_the_analysis_is_shown(finished: Path) -> None:
    assert "test_accuracy" in ds.Table(analysis.load(finished))._repr_html_()
    assert "No recorded study declares an equivalence" in repr(ds.Table(analysis.equivalences(finished)))
    assert "0 rows" in ds.query(finished, "SELECT * FROM trials WHERE images = 7")._repr_html_()
