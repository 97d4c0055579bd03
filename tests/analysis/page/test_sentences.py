"""What the sentences below the forest plot say: true for open, few, single and missing cells."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from analysis.page.sentences import Cell, sentence
from analysis.paired.unpaired import NO_TRIALS

COLUMNS = [
    "mean_delta",
    "ci_low",
    "ci_high",
    "n_pairs",
    "p_holm",
    "family",
    "dataset",
    "images",
    "epochs",
    "recipe",
    "no_pair",
]
NONE = float("nan")
CLEAR, LOWER, OPEN = (2.0, 1.0, 3.0, 8), (-2.5, -4.0, -1.0, 8), (0.5, -1.0, 2.0, 8)


WAITING: Cell = ("mnist", 100, 30, "r")


def said(*cells: tuple[float, float, float, int], unfinished: Sequence[Cell] = (), **more: Any) -> str:
    rows = [(*cell, NONE, None, "digits", 100, 30, "r", "" if cell[3] else NO_TRIALS) for cell in cells]
    return sentence(pd.DataFrame(rows, columns=COLUMNS).assign(**more), unfinished)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([CLEAR], "Test accuracy is higher in the only cell, by 2.00 points (95 % interval above zero)."),
        (
            [CLEAR, (3.0, 0.1, 5.9, 8)],
            "Test accuracy is higher in all 2 cells, by 2.00 to 3.00 points (95 % interval above zero).",
        ),
        (
            [CLEAR, LOWER, OPEN],
            "Test accuracy is higher in 1 of 3 cells, by 2.00 points (95 % interval above zero), lower in 1 of 3 "
            "cells, by 2.50 points (95 % interval below zero); no difference is shown in the other cell, where the "
            "interval contains zero.",
        ),
        ([OPEN], "No difference is shown: the 95 % interval, from \N{MINUS SIGN}1.00 to +2.00 points, contains zero."),
        (
            [OPEN, OPEN],
            "No difference is shown: the 95 % interval contains zero in all 2 cells; the intervals reach from "
            "\N{MINUS SIGN}1.00 to +2.00 points.",
        ),
        ([(1.0, 0.0, 2.0, 8)], "No difference is shown: the 95 % interval, from +0.00 to +2.00 points, contains zero."),
    ],
)
def test_an_interval_that_contains_zero_shows_no_difference(
    cells: list[tuple[float, float, float, int]], words: str
) -> None:
    assert said(*cells) == words


def test_few_pairs_are_told() -> None:
    few = (2.0, 1.0, 3.0, 3)
    assert "with only 3 pairs, an interval assumes normally distributed differences" in said(few)
    assert "with only 2 to 3 pairs in 2 cells, an interval" in said(few, (2.0, 1.0, 3.0, 2), CLEAR)


def test_an_interval_without_width_is_told() -> None:
    words = "in 1 cell all differences are equal: an interval without width, not precision"
    assert words in said((-1.25, -1.25, -1.25, 2), CLEAR)
    assert "equal" not in said((-1.25, -1.26, -1.24, 2), CLEAR)


def test_a_single_pair_shows_nothing() -> None:
    assert said((2.0, NONE, NONE, 1)) == (
        "1 cell has a single pair (+2.00 points) and no interval, which shows nothing."
    )
    assert "2 cells have a single pair (\N{MINUS SIGN}1.00 to +2.00 points)" in said(
        (2.0, NONE, NONE, 1), (-1.0, NONE, NONE, 1)
    )


def test_missing_cells_are_told() -> None:
    assert said((NONE, NONE, NONE, 0)) == "1 cell has no pair, since trials of one arm are missing."
    assert said(unfinished=[WAITING] * 6) == "6 planned cells have no trial yet."
    assert said(CLEAR, unfinished=[WAITING]).endswith("; 1 planned cell has no trial yet.")
    longer = said(CLEAR, unfinished=[("digits", 100, 90, "r")])
    assert longer.endswith("; 1 planned cell of 90 epochs has no trial yet.")


@pytest.mark.parametrize(
    ("family", "words"),
    [("2 cells asked for", "over 2 cells, 1 of 2"), ("2 cells of the contrasts of mine", "of mine, 1 of 2")],
)
def test_the_family_of_a_correction_is_named_without_the_words_of_a_request(family: str, words: str) -> None:
    text = said(CLEAR, OPEN, p_holm=[0.01, 0.6], family=family)
    assert words in text
    assert "asked for" not in text
