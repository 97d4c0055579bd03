"""Numbers as text."""

import pytest

from orchestrator.process.numbers_as_text import about, rounded


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        (0, 3, "0"),
        (0.0000538, 3, "0.0000538"),
        (0.000205, 3, "0.000205"),
        (1.5, 3, "1.5"),
        (12.51, 3, "12.5"),
        (999.4, 3, "999"),
        (999.6, 3, "1,000"),
        (2549.3, 3, "2,550"),
        (1e6, 3, "1,000,000"),
        (9.96, 2, "10"),
        (110.4, 2, "110"),
    ],
)
def test_numbers_have_no_power_of_ten(value: float, digits: int, words: str) -> None:
    assert rounded(value, digits) == words


def test_tiny_estimates_are_not_zero() -> None:
    assert [about(value) for value in (0, 0.0000538, 0.00123, 2549.3)] == [
        "about 0",
        "less than 0.001",
        "about 0.00123",
        "about 2,550",
    ]
