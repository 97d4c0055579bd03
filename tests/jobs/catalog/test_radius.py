"""Radii in cards: numbers, decimal text, and fractions as in papers."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from jobs.catalog.card import Radius

RADIUS = TypeAdapter(Radius)


@given(
    st.floats(min_value=0, allow_nan=False, allow_infinity=False).map(repr)
    | st.decimals(min_value=0, max_value=10**30, allow_nan=False, allow_infinity=False).map(str)
    | st.tuples(st.integers(-999, 999), st.integers(1, 9999)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    | st.tuples(st.integers(0, 10**25), st.integers(-340, 280)).map(lambda pair: f" +{pair[0]}.5e{pair[1]} ")
)
def test_the_nearest_number_is_read_bit_for_bit(text: str) -> None:
    assert RADIUS.validate_python(text).hex() == float(Fraction(text)).hex()


def test_numbers_stay() -> None:
    assert (RADIUS.validate_python(0.5), RADIUS.validate_python(3)) == (0.5, 3.0)
    assert RADIUS.validate_python("-0.0").hex() == "0x0.0p+0"


@pytest.mark.parametrize(
    "text",
    [
        *("1e9999999999", "1e-9999999999/3", f"1/{'9' * 4_000}e", "9" * 5_000, f"{'9' * 2_000_000}/3", "1e400"),
        *("inf", "nan", "-Infinity", "1/0", "", "/", "4/255/2", "a", "0x1p3"),
    ],
)
def test_what_is_no_radius_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="expected a radius as a number or a fraction"):
        RADIUS.validate_python(text)


def test_a_tiny_decimal_is_read_without_its_digits() -> None:
    assert RADIUS.validate_python("1e-9999999999") == 0
