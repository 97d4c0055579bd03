"""The rows that a forest plot shows of many cells, and how it draws intervals that are few, single or cut off."""

import io
import re
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.figures.drawing.style import COLOURS, MARKERS, Look
from analysis.page.forest import MOST_ROWS, Forest, Group, Row, forest, svg
from analysis.web.picture import pictures
from analysis.web.svg import INK

LOOK = Look(COLOURS[1], MARKERS[1])


def cells(datasets: int, sizes: int) -> pd.DataFrame:
    rows = [
        {"dataset": f"d{dataset}", "images": 100 * 2**size, "images_used": 100 * 2**size, "epochs": 30, "p_holm": None}
        for dataset, size in product(range(datasets), range(sizes))
    ]
    return pd.DataFrame(rows).assign(length="", mean_delta=1.0, ci_low=0.5, ci_high=1.5, n_pairs=9, family=None)


def drawn(*groups: pd.DataFrame) -> Forest:
    return forest([(f"g{number}", "", LOOK, group) for number, group in enumerate(groups)])


@pytest.mark.parametrize(
    ("comparisons", "datasets", "sizes", "rows", "words"),
    [
        (2, 4, 5, 40, ""),
        (3, 6, 10, 36, "36 of 180 cells are drawn: the smallest and the largest training set of each dataset."),
        (5, 6, 10, 30, "30 of 300 cells are drawn: the largest training set of each dataset."),
        (
            *(20, 6, 10, 36),
            "36 of 1,200 cells are drawn: the largest training set of each dataset, in the first 6 of 20 comparisons.",
        ),
        (1, 90, 1, 40, "40 of 90 cells are drawn: the largest training set of each dataset, the first 40 datasets."),
    ],
)
def test_it_is_never_a_wall_and_says_what_it_leaves_out(
    comparisons: int, datasets: int, sizes: int, rows: int, words: str
) -> None:
    plot = drawn(*[cells(datasets, sizes)] * comparisons)
    assert sum(len(group.rows) for group in plot.groups) == rows <= MOST_ROWS
    assert plot.shown == words


def test_a_size_without_an_interval_is_drawn_only_where_a_dataset_has_no_other() -> None:
    """The largest training set of the paper's Tables 4 and 7 has one seed."""
    nan, group = float("nan"), cells(6, 4)
    single = (group["images"] == 800) | ((group["dataset"] == "d5") & (group["images"] > 100))
    group = group.assign(ci_low=group["ci_low"].mask(single, nan), ci_high=group["ci_high"].mask(single, nan))
    for number, ends in ((2, ["100", "400"]), (7, ["400"])):
        plot = drawn(*[group] * number)
        sizes = {name: [row.size for row in plot.groups[0].rows if row.dataset == name] for name in ("d0", "d5")}
        assert sizes == {"d0": ends, "d5": ["100"]}
        assert "of each dataset (of those with an interval, if it has any)" in plot.shown
    alone = group[group["images"] == 800]
    assert len(drawn(*[alone] * 7).groups[0].rows) == 6, "no interval at all"


def one(mean: float, low: float, high: float, n: int) -> str:
    firm = Row("digits", "100", 1.0, 0.0, 2.0, 9, "")
    rows = (firm, Row("digits", "200", mean, low, high, n, "0.010"))
    return svg(Forest((Group("a minus b", "last epoch", LOOK, rows),), ""))


def test_an_interval_of_few_pairs_is_dotted() -> None:
    assert "stroke-dasharray" in one(1.0, 0.5, 1.5, 4)
    assert "stroke-dasharray" not in one(1.0, 0.5, 1.5, 5)


def test_a_single_pair_is_hollow_and_has_no_interval() -> None:
    made = one(1.0, float("nan"), float("nan"), 1)
    assert made.count('class="hollow') == 1
    assert made.count('class="stroke') == 4, "two halves and two ends of the other row"
    assert "digits, 200 images: +1.00, n = 1, p = 0.010" in made


def test_an_end_outside_of_the_frame_is_an_arrow() -> None:
    """An arrow has two strokes, which the end of an interval has not."""
    arrows = [len(re.findall(r'd="M[\d. ]+L[\d. ]+L[\d. ]+"', one(1.0, low, 3.0, 3))) for low in (-0.5, -900.0)]
    assert arrows == [0, 1]


def test_the_picture_shows_what_the_drawing_does() -> None:
    """Lines and marks are where they are in the SVG, in their colours; the same plot gives the same bytes."""
    drawing = one(1.0, 0.5, 1.5, 5)
    made = Image.open(io.BytesIO(pictures(drawing)["png"])).convert("RGB")
    dots = 200 / 96
    assert made.width == round(880 * dots)
    wanted = tuple(bytes.fromhex(LOOK.colour[1:]))
    lines = re.findall(r'class="stroke s1" d="M([\d.]+) ([\d.]+)H([\d.]+)"', drawing)
    assert len(lines) == 4
    for x, y, end in lines:
        at = round((float(x) + float(end)) / 2 * dots), round(float(y) * dots)
        assert made.getpixel(at) == wanted
    colours = {colour for _, colour in made.getcolors(10**6) or ()}
    assert {(255, 255, 255), tuple(bytes.fromhex(INK[1:]))} <= colours, "text, too"
    assert pictures(drawing)["png"] == pictures(drawing)["png"]
    assert pictures(drawing)["pdf"] == pictures(drawing)["pdf"]


@pytest.mark.parametrize("width", [1, 2, 4])
def test_dashes_are_as_long_as_in_the_drawing(width: int) -> None:
    line = f'<path d="M0 10H96" stroke="#000000" stroke-width="{width}" stroke-dasharray="2 2"/>'
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" width="96" height="20" font-size="10">{line}</svg>'
    made = Image.open(io.BytesIO(pictures(drawing)["png"])).convert("L")
    row = np.asarray(made)[made.height // 2] < 128
    assert sum(bool(dark and not before) for before, dark in pairwise([False, *row])) == 96 // 4


@pytest.mark.parametrize("marker", MARKERS)
def test_all_marks_can_be_pictures(marker: str) -> None:
    rows = (Row("digits", "100", 1.0, 0.0, 2.0, 9, ""),)
    group = Group("a minus b", "last epoch", Look(COLOURS[0], marker), rows)
    assert pictures(svg(Forest((group,), "")))["png"]


def test_a_picture_of_any_name() -> None:
    row = Row("<a>\x01$&", "100", 1.0, 0.0, 2.0, 9, "")
    assert pictures(svg(Forest((Group("a \x00", "$x$", LOOK, (row,)),), "")))["png"]


@pytest.mark.parametrize("narrow", [False, True])
def test_text_stays_within_the_drawing(narrow: bool) -> None:
    long = "a_very_long_name_of_a_source_that_someone_chose_" * 3
    row = Row(long, "1,281,167 (150 epochs)", -10.0, -20.5, 0.5, 12, "<0.001")
    made = str(svg(Forest((Group(f"{long} minus {long}", "last 3 blocks, last epoch", LOOK, (row,)),), ""), narrow))
    width = 340 if narrow else 880
    texts = re.findall(r'<text class="\w+" x="([\d.-]+)" y="[\d.]+" text-anchor="(\w+)" [^>]*>(.*?)</text>', made)
    assert len(texts) > 8
    for x, anchor, text in texts:
        wide = 6.0 * len(re.sub("<[^>]*>", "", text))
        start = float(x) - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        assert start >= -8, text
        assert start + wide <= width + 60, text
