"""Sentences of headlines that the tests of whole pages do not reach."""

import pandas as pd
import pytest

from analysis.page.sections import headlines


@pytest.mark.parametrize(
    ("family", "words"),
    [("2 cells asked for", "over 2 cells, 1 of 2"), ("2 cells of the contrasts of mine", "of mine, 1 of 2")],
)
def test_the_family_of_a_correction_is_named_without_the_words_of_a_request(family: str, words: str) -> None:
    cells = pd.DataFrame({"ci_low": [1.0, -1.0], "ci_high": [2.0, 1.0], "p_holm": [0.01, 0.6], "family": [family] * 2})
    sentence = headlines._count(cells)
    assert words in sentence
    assert "asked for" not in sentence
