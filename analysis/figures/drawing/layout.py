"""The positions of the parts of a figure, in inches from its upper left corner.

All parts are measured in advance: no output format changes the layout or crops the figure.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from analysis.figures.drawing.model import Figure, Panel
from analysis.figures.drawing.style import WIDTH_INCHES

TITLE_POINTS, ROW_POINTS, TEXT_POINTS, TICK_POINTS = 8.5, 7.5, 6.5, 6.0
EDGE = 0.06
ALL_ELSE, FEW = "", "few"
"""Keys of the two legends that list no series: arms and variants, and intervals of few trials."""

_NUMBERS, _LABELLED = 0.31, 0.45  # inches left of axes: tick labels only, and with an axis label
_HEIGHTS = {1: 1.7, 2: 1.55, 3: 1.2}
_LEAST_HEIGHT = 0.95
_GAP = 0.1


Box = tuple[float, float, float, float]
"""Left, top, width and height, in inches from the upper left corner of a figure."""


class Under(NamedTuple):
    """The label below a pair of axes, and the space above it."""

    label: str
    inches: float
    """Height of the numbers or names at the ticks, without the label."""


class Place(NamedTuple):
    """The position of one pair of axes."""

    panel: Panel
    title: str
    left: float
    top: float
    width: float
    height: float
    y_label: bool
    label: str
    """The label below the axes; empty where the next row has the same label."""
    below: float
    """Inches from the axes to the label."""


class Words(NamedTuple):
    """Lines of text that start at the left edge."""

    kind: str
    text: str
    top: float
    points: float
    bold: bool = False


class LegendPlace(NamedTuple):
    """Stacked legends: one for each kind of series, and one for the rest."""

    kinds: tuple[str, ...]
    top: float


class Layout(NamedTuple):
    """The layout of a whole figure; ``inner`` is the top and bottom of the part between title and caption."""

    height: float
    places: tuple[Place, ...]
    words: tuple[Words, ...]
    legends: tuple[LegendPlace, ...]
    inner: tuple[float, float]

    @property
    def parts(self) -> list[Box]:
        """What is above the first panel, and then each panel with its title, numbers and labels."""
        above = self.inner[0]
        first = min(place.top - _titles(place) for place in self.places)
        legends = [(0.0, above, WIDTH_INCHES, first - above)] if first - above > EDGE else []
        return [*legends, *(_box(place) for place in self.places)]


def _titles(place: Place) -> float:
    return (place.title.count("\n") + 1) * line(TEXT_POINTS)


def _box(place: Place) -> Box:
    margin, titles = _LABELLED if place.y_label else _NUMBERS, _titles(place)
    left = max(place.left - margin, 0.0)
    below = place.below + line(TEXT_POINTS) + 0.04
    return left, place.top - titles, place.left + place.width + EDGE - left, titles + place.height + below


class _Block(NamedTuple):
    """The panels with one row heading, as indices arranged in rows."""

    name: str
    rows: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...]


def line(points: float) -> float:
    """Return the line height in inches."""
    return 1.32 * points / 72


@lru_cache(maxsize=4096)
def text_inches(text: str, points: float, bold: bool = False) -> float:
    """Return the width of one line of text."""
    font = FontProperties(size=points, weight="bold" if bold else "normal")
    wide, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return float(wide) / 72


def wrapped(text: str, points: float, inches: float, bold: bool = False) -> list[str]:
    """Wrap text to lines of at most ``inches`` inches; a word that is wider than that is broken."""
    lines: list[str] = []
    space, room = text_inches(" ", points, bold), 0.0
    for word in (piece for long_word in text.split() for piece in _pieces(long_word, points, inches, bold)):
        wide = text_inches(word, points, bold)
        if lines and space + wide <= room:
            lines[-1] += f" {word}"
            room -= space + wide
        else:
            lines.append(word)
            room = inches - wide
    return lines


def arrange(figure: Figure, under: Callable[[Panel, float], Under], legend_lines: Mapping[str, int]) -> Layout:
    """Stack title, legends, blocks of panels and caption from top to bottom.

    Args:
        under: returns the label and the space below a panel whose axes have the given width in inches.
        legend_lines: the number of text lines of each legend, by kind of series and for ``ALL_ELSE`` and ``FEW``.
    """
    return _Sheet(figure, under, legend_lines).arranged()


class _Sheet:
    """Places the parts of a figure from top to bottom."""

    def __init__(self, figure: Figure, under: Callable[[Panel, float], Under], legend_lines: Mapping[str, int]) -> None:
        self.figure = figure
        self.under = under
        self.legend_lines = legend_lines
        self.top = EDGE
        self.places: list[Place] = []
        self.words: list[Words] = []
        self.legends: list[LegendPlace] = []

    def arranged(self) -> Layout:
        self._say("title", self.figure.title, TITLE_POINTS, bold=True)
        above = self.top
        blocks = _blocks(self.figure)
        shared = len({block.kinds for block in blocks}) == 1
        self._legend((*(blocks[0].kinds if shared else ()), ALL_ELSE, FEW))
        for block in blocks:
            if block.name:
                self._say("row", block.name, ROW_POINTS, bold=True)
            if not shared:
                self._legend(block.kinds)
            self._block(block)
        below = self.top
        self._say("caption", self.figure.shows, TEXT_POINTS)
        if self.figure.remarks:
            self._say("caption", " ".join(self.figure.remarks), TEXT_POINTS)
        return Layout(self.top, tuple(self.places), tuple(self.words), tuple(self.legends), (above, below))

    def _say(self, kind: str, text: str, points: float, bold: bool = False) -> None:
        lines = wrapped(text, points, WIDTH_INCHES - 2 * EDGE, bold)
        self.words.append(Words(kind, "\n".join(lines), self.top, points, bold))
        self.top += len(lines) * line(points) + 0.02

    def _legend(self, kinds: tuple[str, ...]) -> None:
        lines = sum(self.legend_lines[kind] for kind in kinds)
        if lines:
            self.legends.append(LegendPlace(kinds, self.top))
            self.top += lines * line(TEXT_POINTS) + 0.05

    def _block(self, block: _Block) -> None:
        panels = self.figure.panels
        lefts, width = _columns([[panels[number] for number in row] for row in block.rows])
        height = _HEIGHTS.get(len(lefts), _LEAST_HEIGHT)
        unders = {number: self.under(panels[number], width) for row in block.rows for number in row}
        for row, next_row in zip(block.rows, (*block.rows[1:], ()), strict=True):
            titles = [_title(panels[number], width) for number in row]
            self.top += max(title.count("\n") + 1 for title in titles) * line(TEXT_POINTS)
            below = 0.0
            for column, number in enumerate(row):
                label, inches = unders[number]
                if label in {unders[other].label for other in next_row}:
                    label = ""
                panel, named = panels[number], _labelled([panels[other] for other in row], column)
                place = (lefts[column], self.top, width, height)
                self.places.append(Place(panel, titles[column], *place, named, label, inches))
                below = max(below, inches + (line(TEXT_POINTS) if label else 0))
            self.top += height + below + _GAP


def _pieces(word: str, points: float, inches: float, bold: bool) -> list[str]:
    if text_inches(word, points, bold) <= inches:
        return [word]
    pieces = [""]
    for letter in word:
        if pieces[-1] and text_inches(pieces[-1] + letter, points, bold) > inches:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _blocks(figure: Figure) -> list[_Block]:
    """Group panels by row name, and distribute each group evenly over rows."""
    blocks = []
    for name, group in groupby(range(len(figure.panels)), key=lambda number: figure.panels[number].row):
        numbers = list(group)
        wide = math.ceil(len(numbers) / math.ceil(len(numbers) / figure.columns))
        rows = tuple(tuple(numbers[start : start + wide]) for start in range(0, len(numbers), wide))
        blocks.append(_Block(name, rows, tuple(dict.fromkeys(figure.panels[number].by for number in numbers))))
    return blocks


def _columns(rows: Sequence[Sequence[Panel]]) -> tuple[list[float], float]:
    """Return the left ends of the axes of each column, and their common width."""
    margins = [
        max(_LABELLED if _labelled(row, column) else _NUMBERS for row in rows if column < len(row))
        for column in range(len(rows[0]))
    ]
    width = (WIDTH_INCHES - 2 * EDGE - sum(margins)) / len(margins)
    return [sum(margins[: column + 1]) + column * width for column in range(len(margins))], width


def _labelled(row: Sequence[Panel], column: int) -> bool:
    """Whether axes have a y label: the first of a row, and any whose quantity differs from its left neighbour's."""
    return column == 0 or row[column - 1].quantity != row[column].quantity


def _title(panel: Panel, width: float) -> str:
    return "\n".join(wrapped(panel.title, TEXT_POINTS, width + _NUMBERS - 0.1))
