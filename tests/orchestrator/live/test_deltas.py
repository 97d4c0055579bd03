"""What the live page says of deltas: the cautions that belong to intervals, and marks that stay in their places."""

import math
import re
from itertools import pairwise

import pytest
from starlette.testclient import TestClient

from analysis.paired.cells import method_words
from analysis.paired.contrasts import Comparison
from analysis.statistics.paired_t import ROUNDING
from orchestrator.live.charts import curve_chart, delta_panels, delta_words, summaries, trial_chart
from orchestrator.live.comparisons import Curve, Delta, Deltas
from tests.orchestrator.live.viewers import Tags

SOURCES = ["base", "other", "robust"]


def delta(low: float, high: float, pairs: int, *, source: str = "robust", images: int = 100) -> Delta:
    mean = (low + high) / 2 if pairs > 1 else 1.0
    words = method_words(pairs, equal=high - low < ROUNDING)
    return Delta(source, "base", "digits", images, 5, mean, low, high, pairs, 0, words)


def found(*cells: Delta) -> Deltas:
    sources = dict.fromkeys(cell.source for cell in cells)
    return Deltas(3, [Comparison(source, "base") for source in sources], [*cells], "")


def test_cells_of_equal_differences_and_of_few_pairs_are_counted_apart() -> None:
    cells = [
        delta(1.0, 2.0, 20),
        delta(-2.0, -1.0, 20),
        delta(-1.0, 1.0, 4),
        delta(2.0, 2.0, 20),
        delta(-2.0, -2.0 + ROUNDING / 2, 3),
        delta(math.nan, math.nan, 1),
        delta(math.nan, math.nan, 0),
    ]
    (one,) = summaries(found(*cells), SOURCES)
    assert (one.cells, one.bounded, one.above, one.below, one.equal, one.few) == (6, 3, 1, 1, 2, 2)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (delta(1.0, 3.0, 20), "+2.00 (+1.00 to +3.00; paired t 95%), 20 pairs"),
        (delta(1.0, 3.0, 2), "paired t 95%, few pairs: rests on normal differences), 2 pairs"),
        (delta(2.0, 2.0, 20), "all differences are equal: no width is no precision), 20 pairs"),
        (delta(math.nan, math.nan, 1), "+1.00 (one pair: no interval), 1 pair"),
    ],
)
def test_a_mark_says_how_its_interval_was_computed(cell: Delta, said: str) -> None:
    assert delta_words(cell).endswith(said)


def test_the_page_says_that_pairs_are_few(page: TestClient) -> None:
    """The grid has three seeds."""
    text = page.get("/").text
    assert re.search(
        r"<title>[^<]*\([^<]*; paired t 95%, few pairs: rests on normal differences\), 3 pairs</title>", text
    )
    assert "<td>paired t 95%, few pairs: rests on normal differences</td>" in text
    assert re.search(r"\d cells? of fewer than 5 pairs: rests? on normal differences; median", Tags(text).text)


@pytest.mark.parametrize(("comparisons", "sizes"), [(1, 1), (2, 3), (2, 9), (9, 1), (9, 9), (15, 14)])
def test_marks_stay_in_the_place_of_their_size(comparisons: int, sizes: int) -> None:
    cells = [
        delta(1.0, 2.0, 20, source=f"s{source:02}", images=100 * 2**size)
        for source in range(comparisons)
        for size in range(sizes)
    ]
    (panel,) = delta_panels(found(*cells), sorted({cell.source for cell in cells}))
    lines = re.findall(r'<line class="interval s\d+" x1="([\d.]+)"', panel.chart)
    places = [float(at) for at in lines]
    assert len(places) == len(cells)
    by_size = [places[size::sizes] for size in range(sizes)]
    for left, right in pairwise(by_size):
        assert max(left) < min(right)
    assert all(len(set(place)) == comparisons for place in by_size)


@pytest.mark.parametrize("last", [1, 2, 3, 4, 7, 100])
def test_ticks_at_epochs_are_whole_numbers(last: int) -> None:
    points = [(epoch, 50.0 + epoch) for epoch in sorted({1, last})]
    drawn = [
        curve_chart([Curve("natural", points)], ["natural"], "curves"),
        trial_chart({"test": points}, "curve", running=False),
    ]
    for chart in drawn:
        ticks = re.findall('class="middle">([^<]*)<', chart)
        assert len(ticks) > 1
        assert all(tick.isdecimal() for tick in ticks), ticks
