"""YAML of strangers: every document is values or one ``YAMLError``, at the cost of its length."""

import pytest
import yaml

from jobs.system import safe_yaml
from jobs.system.safe_yaml import MOST_DIGITS, CoreLoader, Loader, compose, load, otherwise_read

LOADERS = pytest.mark.parametrize("loader", [Loader, CoreLoader])
NOT_CONSTRUCTED = [
    "!!int ''",
    "!!int foo",
    "!!int '-'",
    "!!int [1]",
    "!!int {a: 1}",
    "!!float ''",
    "!!float foo",
    "!!bool foo",
    "!!bool [true]",
    "!!timestamp x",
    "!!timestamp 2026-13-45",
    "!!timestamp 2026-01-01T00:00:00+99:00",
    "!!binary 'a'",
    "!!set x",
    "!!omap [a]",
    "{[a]: 1}",
]
OF_1_1 = ["2026-13-45", f"{':'.join(['1'] * 200)}.5", "=", "{? !!int {=: 1} : 2}"]
"""Documents in the forms of YAML 1.1, which are text in the core schema."""


def error_of(text: str, loader: type[Loader]) -> str | None:
    """Return the error of YAML for a document; None if it can be loaded."""
    try:
        load(text, loader)
    except yaml.YAMLError as error:
        return str(error)
    return None


@LOADERS
@pytest.mark.parametrize("text", [*NOT_CONSTRUCTED, *OF_1_1])
def test_what_cannot_be_constructed_is_an_error_of_yaml(text: str, loader: type[Loader]) -> None:
    for inside in (text, f"a: {text}", f"[{text}]"):
        said = error_of(inside, loader)
        assert len(said or "") < 1_000
        assert said is not None or text in OF_1_1, "a value after all"


@pytest.mark.parametrize("text", NOT_CONSTRUCTED)
def test_its_line_is_known(text: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as caught:
        load(f"a: 1\nb: {text}\n")
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line == 1


@LOADERS
@pytest.mark.parametrize(
    "number",
    [
        ":".join(["1"] * 1_900_000),  # the time to read it would grow with its square
        f"!!int {{!!value =: '{':'.join(['1'] * 1_900_000)}'}}",
        f"!!float {':'.join(['1'] * 1_900_000)}.5",
        "9" * 5_000,
        f"0x{'f' * 4_000}",  # which Python could not print
        f"0b{'1' * 20_000}",
        f"!!float {'1' * 5_000}",
    ],
    ids=["base 60", "in a mapping", "with a fraction", "decimal", "hexadecimal", "binary", "float"],
)
def test_very_long_numbers_are_refused(number: str, loader: type[Loader]) -> None:
    said = error_of(f"a: {number}", loader)
    assert len(said or "") < 1_000
    assert said is not None or isinstance(load(f"a: {number}", loader)["a"], str), "text in the core schema"


def test_the_longest_number_can_be_printed() -> None:
    for loader in (Loader, CoreLoader):
        assert len(repr(load(f"0x{'f' * (MOST_DIGITS - 2)}", loader))) > MOST_DIGITS


@LOADERS
def test_values_are_counted_before_they_fill_the_memory(loader: type[Loader], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_yaml, "MOST_VALUES", 6)
    assert compose("[1, 2, {a: 3}]", loader) is not None
    monkeypatch.setattr(safe_yaml, "_count", lambda root, known: 1)  # of the whole document
    with pytest.raises(yaml.YAMLError, match="values"):
        compose("[1, 2, {a: 3}, 4]", loader)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1_000", 1000), ("1:30", 90), ("yes", True), ("off", False), ("0b11", 3), ("5", 5), ("fifty", "fifty")],
)
def test_what_older_readers_take_a_text_for(text: str, value: object) -> None:
    assert otherwise_read(text) == value


@pytest.mark.parametrize(
    "text",
    ["[" * 100, "[" * 100_000, "1:" * 2_000_000 + "1", "[1, 2]", "{a: 1}", "!!set {a}", "!!int ''", "a: b: c", "\x00"],
)
def test_texts_that_nobody_means_otherwise(text: str) -> None:
    assert otherwise_read(text) == text
