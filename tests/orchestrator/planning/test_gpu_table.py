"""Tables of GPUs that strangers wrote: what is said about them has limits and is on lines of its own."""

from pathlib import Path

import pytest

from jobs.errors import MOST_LISTED, InvalidRequest
from orchestrator.planning.gpu_table import table_with
from orchestrator.study.raw_values import MOST_MISTAKES


def refusal(folder: Path, text: str) -> InvalidRequest:
    """Return the error for a table."""
    path = folder / "gpus.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest) as caught:
        table_with(path)
    return caught.value


OF_NONE = "rates: {float32: {of: none, times: 2, because: a, source: a, date: 2026-11}}"


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"GPU {number}:\n" for number in range(3_000)),
        "".join(f"GPU {number}: {{memory_gb: 1, {OF_NONE}}}\n" for number in range(1_000)),
        "GPU:\n" * 3_000,
    ],
    ids=["types", "references", "keys"],
)
def test_of_very_many_mistakes_the_first_are_told(text: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, text)
    lines = str(error).splitlines()
    assert len(error.mistakes) == MOST_MISTAKES
    assert lines[0].endswith(f"at least {MOST_MISTAKES} mistakes; no others were looked for")
    assert len(lines) == 1 + MOST_LISTED + 1


def test_names_do_not_look_like_other_lines(tmp_path: Path) -> None:
    assert len(str(refusal(tmp_path, '"T4\\n  line 1: L4: correct": {memory_gb: 16}\n')).splitlines()) == 2


def test_values_are_shortened(tmp_path: Path) -> None:
    assert len(str(refusal(tmp_path, f"T4: {{memory_gb: {'x' * 500_000}, {OF_NONE}}}\n"))) < 2_000


RATE = "{float32: {tflops: 5, source: SOURCE, date: DATE}}"


@pytest.mark.parametrize(
    ("name", "source", "date", "key", "line", "message"),
    [
        ("4090", "a", "2026-11", "4090.[key]", 3, "expected a text, but 4090 is a number. Fix: quote it: '4090'"),
        ("Own", "2026", "2026-11", "Own.rates.float32.source", 5, "Fix: quote it: '2026'"),
        ("Own", "0x7e", "2026-11", "Own.rates.float32.source", 5, "expected a text, but 0x7e is a number"),
        ("Own", "true", "2026-11", "Own.rates.float32.source", 5, "Boolean (true or false). Fix: quote it: 'true'"),
        ("Own", "a", "2026", "Own.rates.float32.date", 5, "a month such as 2021-03; got 2026. Fix: "),
        ("Own", "a", "[2026]", "Own.rates.float32.date", 5, "a month such as 2021-03; got [2026]. Fix: "),
    ],
)
def test_numbers_in_place_of_texts_are_to_be_quoted(
    name: str, source: str, date: str, key: str, line: int, message: str, tmp_path: Path
) -> None:
    rates = RATE.replace("SOURCE", source).replace("DATE", date)
    error = refusal(tmp_path, f"# mine\n\n{name}:\n  memory_gb: 24\n  rates: {rates}\n")
    assert (error.place.key, error.place.line) == (key, line)
    assert message in str(error)


def test_mistakes_below_a_number_have_their_own_lines(tmp_path: Path) -> None:
    error = refusal(tmp_path, "T4: {memory_gb: 16, rates: {}}\n4090:\n  rates: {}\n  memory_gb: -24\n  24: GB\n")
    places = [(one.place.key, one.place.line) for one in error.mistakes]
    assert places == [("4090.[key]", 2), ("4090.memory_gb", 4), ("4090.24", 5)]
    assert "expected one of the keys card, memory_gb" in error.mistakes[2].message


@pytest.mark.parametrize(("text", "got"), [("mine: 3\n", "3"), ("mine: {rates: 5}\n", "5")])
def test_a_value_in_place_of_keys_is_said_in_plain_words(tmp_path: Path, text: str, got: str) -> None:
    file = tmp_path / "gpus.yaml"
    file.write_text(text)
    with pytest.raises(InvalidRequest) as error:
        table_with(file)
    assert f"expected keys with values, indented below it; got {got}" in str(error.value)
