"""Tables as text and bytes."""

import csv
import datetime as dt
import io
import json
from decimal import Decimal
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.output.formats import parquet, text
from jobs.errors import Code
from tests.analysis.support import Build
from tests.support import refused

TABLE = pa.table(
    {
        "name": ["plain", 'with "quotes", and a comma', None],
        "accuracy": [48.4931234567, float("nan"), None],
        "sum": pa.array([Decimal(300), Decimal(1), None], pa.decimal128(38, 0)),
        "seeds": [[1, 2], [], None],
        "day": [dt.date(2026, 1, 2), None, None],
    }
)


def test_csv_keeps_every_digit() -> None:
    rows = list(csv.DictReader(io.StringIO(text(TABLE, "csv"))))
    assert rows[0] == {
        "name": "plain",
        "accuracy": "48.4931234567",
        "sum": "300",
        "seeds": "[1, 2]",
        "day": "2026-01-02",
    }
    assert rows[1]["name"] == 'with "quotes", and a comma'
    assert set(rows[2].values()) == {""}


@given(st.lists(st.floats(allow_nan=False), max_size=5), st.lists(st.text(max_size=5), min_size=5, max_size=5))
def test_csv_can_be_read_back(numbers: list[float], words: list[str]) -> None:
    table = pa.table({"number": pa.array(numbers, pa.float64()), "word": words[: len(numbers)]})
    rows = list(csv.DictReader(io.StringIO(text(table, "csv"), newline="")))
    assert [float(row["number"]) for row in rows] == numbers
    assert [row["word"] for row in rows] == words[: len(numbers)]


def test_json_is_an_array_of_objects() -> None:
    rows = json.loads(text(TABLE, "json"))
    assert rows[0] == {"name": "plain", "accuracy": 48.4931234567, "sum": 300, "seeds": [1, 2], "day": "2026-01-02"}
    assert rows[1]["accuracy"] is None


def test_parquet_is_the_table() -> None:
    back = pq.read_table(io.BytesIO(parquet(TABLE)))
    assert back.drop_columns("accuracy").to_pylist() == TABLE.drop_columns("accuracy").to_pylist()
    assert back["accuracy"].to_pylist()[0] == 48.4931234567


def test_table_is_for_people() -> None:
    lines = text(TABLE, "table").splitlines()
    assert lines[0].split() == ["name", "accuracy", "sum", "seeds", "day"]
    assert "48.4931 " in lines[2]
    assert "48.49312" not in lines[2]


def test_table_folds_rather_than_cuts() -> None:
    table = pa.table({"long": ["abcdefgh" * 10]})
    assert text(table, "table", width=40).replace("\n", "").replace(" ", "").endswith("abcdefgh" * 10)


def test_markup_is_text() -> None:
    assert "[bold]x[/bold]" in text(pa.table({"a": ["[bold]x[/bold]"]}), "table")


def test_text_cannot_steer_the_terminal() -> None:
    shown = text(pa.table({"error": ["\x1b[31mred\r\x07 and\nmore"]}), "table")
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "red\\u000d\\u0007" in shown
    assert "more" in shown.splitlines()[-1]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_all_formats_show_nothing(form: Literal["table", "csv", "json"]) -> None:
    assert text(TABLE.slice(0, 0), form)


def test_numbers_that_json_cannot_say_are_null_at_any_depth() -> None:
    table = pa.table({"x": [[1.0, float("inf")]], "y": [{"a": [float("nan")], "b": [[float("-inf"), 2.0]]}]})
    (row,) = json.loads(text(table, "json"))
    assert row == {"x": [1.0, None], "y": {"a": [None], "b": [[None, 2.0]]}}
    (line,) = csv.DictReader(io.StringIO(text(table, "csv")))
    assert {name: json.loads(value) for name, value in line.items()} == row


class TestDeltas:
    """The deltas table has its own layout on the terminal."""

    @pytest.fixture
    def table(self, build: Build) -> pa.Table:
        trials = [
            rows
            for images in (100, -1)
            for rows in build.arms([50, 51, 52, 49, 50], [70, 71, 75, 69, 71], images=images)
        ]
        return analysis.deltas(
            build.root([*trials, build.trial("robust", 7, 60.0), build.trial("robust", 0, 60.0, blocks=1)])
        )

    def test_what_is_constant_stands_in_the_title(self, table: pa.Table) -> None:
        lines = text(table, "table", width=100).splitlines()
        assert "source robust, baseline natural, dataset digits, blocks 3, epoch 1" in " ".join(lines[:2])
        header = next(line for line in lines if "images" in line)
        assert header.split("  ")[0].split() == ["images"]
        assert max(map(len, lines)) <= 100

    def test_rows_and_notes(self, table: pa.Table) -> None:
        words = " ".join(text(table, "table", width=100).split())
        assert "100 5 (+1) +20.80 [" in words
        assert "all 5 +20.80 [" in words
        assert "2 rows: paired t 95%; Holm over 2 cells asked for" in words
        assert "(+n): in 1 cell, trials without a partner in the other arm do not enter the delta" in words
        assert "1 cell without a pair is left out; --format csv lists it" in words
        assert "1 cell has no pair, since trials of one arm are missing" in words

    def test_the_heading_says_the_confidence(self, build: Build) -> None:
        root = build.root(build.arms([50, 51, 52], [70, 71, 75]))
        assert "95 % interval" in text(analysis.deltas(root), "table")
        assert "90 % interval" in text(analysis.deltas(root, confidence=0.9), "table")

    def test_the_other_formats_have_every_row_and_column(self, table: pa.Table) -> None:
        assert len(json.loads(text(table, "json"))) == table.num_rows == 3
        assert text(table, "csv").splitlines()[0] == ",".join(table.column_names)

    def test_no_pairs_at_all(self, build: Build) -> None:
        trials = [build.trial("natural", 0, 50.0), build.trial("robust", 1, 60.0)]
        words = text(analysis.deltas(build.root(trials)), "table")
        assert "1 cell without a pair is left out" in words
        assert "1 cell has no pair, since no seed is recorded in both arms" in words

    def test_diverged_trials_among_the_pairs_are_counted(self, build: Build) -> None:
        lost = {"test_loss": float("nan")}
        alone = build.trial("robust", 9, 10.0, **lost)
        trials = [*build.arms([50, 51], [70]), build.trial("robust", 1, 10.0, **lost), alone]
        words = text(analysis.deltas(build.root(trials)), "table")
        assert "1 trial with a loss that is not finite (diverged) is among the pairs" in words
        healthy = build.root(build.arms([50, 51], [70, 71], train_loss=0.5), "healthy")
        assert "diverged" not in text(analysis.deltas(healthy), "table")

    def test_evaluations_that_are_there_again_are_counted(self, build: Build) -> None:
        again = build.trial("robust", 0, {1: 60.0, 2: 70.0}, trial_id="finetune-again-00000000000000ff")
        trials = [build.trial("natural", 0, {2: 50.0}), build.trial("robust", 0, {2: 70.0}), again]
        words = text(analysis.deltas(build.root(trials)), "table")
        assert "1 evaluation is repeated in trials that differ only in evaluate_every: counted once" in words


@pytest.mark.parametrize("fmt", ["table", "csv", "json"])
@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us"), pa.list_(pa.timestamp("s")), pa.duration("s")])
def test_a_time_beyond_those_of_python_is_one_error(kind: pa.DataType, fmt: Literal["table", "csv", "json"]) -> None:
    late = pa.array([2**31 - 1 if kind == pa.date32() else 2**62 if pa.types.is_temporal(kind) else [2**62]], kind)
    with refused(Code.WRONG_QUERY, "when", "CAST", key="when"):
        text(pa.table({"when": late}), fmt)


def test_a_type_that_parquet_has_not_is_one_error() -> None:
    with refused(Code.WRONG_QUERY, "CAST", key="--format"):
        parquet(pa.table({"a": pa.array([pa.MonthDayNano([1, 2, 3])])}))
