"""The forest plot of the headline deltas: which rows it shows, and its drawing as SVG, wide and for a phone."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from analysis.figures.drawing.style import COLOURS, MARKERS, Look, ordered
from analysis.output.deltas_text import p_text
from analysis.page.sentences import families_text
from analysis.statistics.paired_t import FEW_VALUES
from analysis.web.svg import FONT, GRID, INK, PANEL, SOFT, Axis, axis, scale, shape
from analysis.words import bounds_text, counted, delta_text, size_text
from jobs.system.printable import printable

MOST_ROWS = 40
"""A plot of more cells shows some of them, and says which."""

_LETTER = 6.4
"""Estimated width of a letter, in pixels: generous, since fonts differ."""


class Row(NamedTuple):
    """A cell: a dataset at a size of the training set."""

    dataset: str
    size: str
    """Number of training images, and of epochs where a group that is named by its lengths has several."""
    mean: float
    low: float
    """NaN, as ``high``, for a single pair."""
    high: float
    n: int
    p: str
    """Corrected p-value; empty for cells of no family."""

    @property
    def numbers(self) -> str:
        return f"{delta_text(self.mean)} {bounds_text(self.low, self.high)}".strip()


class Group(NamedTuple):
    """The rows of one comparison."""

    what: str
    where: str
    look: Look
    rows: tuple[Row, ...]


class Forest(NamedTuple):
    groups: tuple[Group, ...]
    shown: str
    """Which cells are shown, if not all; else empty."""
    families: str = ""
    """Over which cells the p-values are corrected; empty if there are none."""


def forest(groups: Sequence[tuple[str, str, Look, pd.DataFrame]]) -> Forest:
    """Choose the rows of a plot.

    Args:
        groups: words for the comparison and for its place, its look, and its cells with pairs.
    """
    total = sum(len(cells) for *_, cells in groups)
    kept, words = [cells for *_, cells in groups], ""
    single = any(cells["ci_low"].isna().any() for *_, cells in groups)
    for ends, which in ((2, "the smallest and the largest training set"), (1, "the largest training set")):
        if sum(map(len, kept)) > MOST_ROWS:
            kept = [_ends(cells, ends) for *_, cells in groups]
            words = f"{which} of each dataset" + (" (of those with an interval, if it has any)" if single else "")
    while sum(map(len, kept)) > MOST_ROWS and len(kept) > 1:
        kept.pop()
    if len(kept) < len(groups):
        words += f", in the first {len(kept)} of {len(groups)} comparisons"
    if len(kept[0]) > MOST_ROWS:
        kept[0] = kept[0].iloc[:MOST_ROWS]
        words += f", the first {MOST_ROWS} datasets"
    made = [
        Group(what, where, look, tuple(_rows(cells)))
        for (what, where, look, _), cells in zip(groups, kept, strict=False)
    ]
    drawn = sum(map(len, kept))
    words = f"{drawn} of {total:,} cells are drawn: {words}." if drawn < total else ""
    families = [family for cells in kept for family in cells.loc[cells["p_holm"].notna(), "family"]]
    return Forest(tuple(made), words, families_text(families))


def _ends(cells: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return the largest size of each dataset, and the smallest if ``number`` is 2; with an interval if it has any."""
    known = cells["ci_low"].notna()
    shown = cells[known | ~known.groupby(cells["dataset"]).transform("any")]
    shown = shown.sort_values(["dataset", "images_used", "images"], kind="stable")
    first = shown.drop_duplicates("dataset") if number == 2 else shown.iloc[:0]
    last = shown.drop_duplicates("dataset", keep="last")
    return cells[cells.index.isin(first.index.union(last.index))]


def _rows(cells: pd.DataFrame) -> list[Row]:
    names = ordered(cells["dataset"])
    cells = cells.sort_values(["images_used", "images"], kind="stable")
    cells = cells.sort_values("dataset", key=lambda column: column.map(names.index), kind="stable")
    several = bool((cells["length"] != "").any()) and cells["epochs"].nunique() > 1
    return [_row(cell, several) for cell in cells.to_dict("records")]


def _row(cell: Mapping[Any, Any], of_several_lengths: bool) -> Row:
    size = size_text(cell["images"]) + (f" ({cell['epochs']} epochs)" if of_several_lengths else "")
    p = "" if pd.isna(cell["p_holm"]) else p_text(cell["p_holm"])
    return Row(cell["dataset"], size, cell["mean_delta"], cell["ci_low"], cell["ci_high"], cell["n_pairs"], p)


def svg(plot: Forest, narrow: bool = False) -> Markup:
    """Draw the plot, legible on white as it is; the page's style sheet replaces the colours in the dark.

    Args:
        narrow: 340 pixels wide, with the numbers of a row above its interval; otherwise 880, with columns.
    """
    return Markup(printable(_Sheet(plot, narrow).drawn()))


class _Sheet:
    """Draws from top to bottom."""

    def __init__(self, plot: Forest, narrow: bool) -> None:
        self.plot, self.narrow = plot, narrow
        rows = [row for group in plot.groups for row in group.rows]
        self.width = 340.0 if narrow else 880.0
        self.names = min(max(60.0, *(len(row.dataset) * _LETTER for row in rows)), 180.0)
        self.sizes = self.names + max(60.0, *(len(row.size) * _LETTER for row in rows))
        """Right end of the column of sizes."""
        corrected = any(row.p for row in rows)
        self.n = self.width - (70 if corrected else 4)
        self.numbers = self.n - 44
        """Right end of the columns of pairs and of numbers."""
        self.left = 6.0 if narrow else self.sizes + 24
        self.right = self.width - (104 if corrected else 50) if narrow else self.numbers - 158
        self.axis = _axis(rows, 4 if narrow else 7)
        self.x = scale(self.axis, self.left, self.right)
        self.top = 4.0
        self.lines: list[Markup] = []
        self.parts: list[Markup] = []

    def drawn(self) -> Markup:
        if not self.narrow:
            self._head()
        for group in self.plot.groups:
            self._heading(group)
            last = ""
            for number, row in enumerate(group.rows):
                first = number == 0 or row.dataset != last
                gap = 5 if first and number and not self.narrow else 0
                self._row(group.look, row, row.dataset if self.narrow or first else "", gap)
                last = row.dataset
        self._foot()
        label = f"Forest plot of {counted(len(self.lines), 'delta')}; the table below has the numbers."
        return Markup(
            '<svg class="{}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:g} {:g}" width="{:g}" height="{:g}" '
            'role="img" aria-label="{}" font-family="{}" font-size="{}">{}{}</svg>'
        ).format(
            *(f"drawn forest {'narrow' if self.narrow else 'broad'}", self.width, self.top, self.width, self.top),
            *(label, FONT, 12 if self.narrow else 12.5, Markup("").join(self.lines), Markup("").join(self.parts)),
        )

    def _head(self) -> None:
        names = [(0.0, "dataset", "start"), (self.sizes, "images", "end"), (self.n, "n", "end")]
        names.append((self.numbers, "delta [95 % interval]", "end"))
        if self.n < self.width - 10:
            names.append((self.width - 4, "p (Holm)", "end"))
        for x, words, where in names:
            self._text(x, self.top + 13, words, where, soft=True)
        self.top += 20

    def _heading(self, group: Group) -> None:
        self.top += 8
        room = self.width if self.narrow else self.width - len(group.where) * _LETTER - 10
        what = Markup('<tspan font-weight="600">{}</tspan>').format(_cut(group.what, 0.9 * room))
        if self.narrow:
            self._text(0, self.top + 13, what)
            self.top += 16
            self._text(0, self.top + 13, _cut(group.where, self.width), soft=True)
        else:
            where = Markup('<tspan class="soft" dx="10" fill="{}">{}</tspan>').format(SOFT, group.where)
            self._text(0, self.top + 13, what + where)
        self.top += 20

    def _row(self, look: Look, row: Row, dataset: str, gap: int) -> None:
        self.top += gap
        told = ", ".join([f"n = {row.n}", *([f"p {row.p}" if row.p[0] == "<" else f"p = {row.p}"] if row.p else [])])
        height, middle = (38.0, self.top + 28) if self.narrow else (20.0, self.top + 10)
        if self.narrow:
            named = _cut(row.dataset, self.width - (len(row.numbers) + len(row.size) + 3) * _LETTER)
            self._text(0, self.top + 16, f"{named}, {row.size}")
            self._text(self.width, self.top + 16, row.numbers, "end")
            self._text(self.width, middle + 4, told, "end", soft=True)
        else:
            self._text(0, middle + 4, _cut(dataset, self.names))
            self._text(self.sizes, middle + 4, row.size, "end")
            self._text(self.numbers, middle + 4, row.numbers, "end")
            self._text(self.n, middle + 4, str(row.n), "end")
            self._text(self.width - 4, middle + 4, row.p, "end")
        self._grid(*((middle - 9, middle + 9) if self.narrow else (middle - 10 - gap, middle + 10)))
        self._interval(look, row, middle, f"{row.dataset}, {row.size} images: {row.numbers}, {told}")
        self.top += height

    def _grid(self, top: float, bottom: float) -> None:
        """Draw the part of the grid behind a row, without lines through headings; the line at zero comes last."""
        values = sorted((value for value, _ in self.axis.ticks), key=lambda value: value == 0)
        line = Markup('<path class="{}" d="M{:.1f} {:.1f}V{:.1f}" stroke="{}"/>')
        self.lines.append(
            Markup("").join(
                line.format("grid" if value else "zero", self.x(value), top, bottom, GRID if value else INK)
                for value in values
            )
        )

    def _interval(self, look: Look, row: Row, y: float, words: str) -> None:
        """Draw mean and interval, dotted for few pairs; an end that the frame clips is an arrow."""
        colour, marker = COLOURS.index(look.colour), MARKERS.index(look.marker)
        alone = row.low != row.low
        stroke = Markup('<path class="stroke s{}" d="{}" fill="none" stroke="{}" stroke-width="{}"{}/>')
        for value, inwards in () if alone else ((row.low, 1), (row.high, -1)):
            end = min(max(value, self.axis.low), self.axis.high)
            at, tip = self.x(end), 5 * inwards
            cap = f"M{at:.1f} {y - 3.5:.1f}V{y + 3.5:.1f}"
            if end != value:
                cap = f"M{at + tip:.1f} {y - 4:.1f}L{at:.1f} {y:.1f}L{at + tip:.1f} {y + 4:.1f}"
            dots = Markup(' stroke-dasharray="2 2"') if row.n < FEW_VALUES else ""
            half = f"M{at:.1f} {y:.1f}H{self.x(row.mean):.1f}"
            self.parts.append(stroke.format(colour, half, look.colour, 2, dots))
            self.parts.append(stroke.format(colour, cap, look.colour, 1.5, ""))
        mark = '<path class="{} s{}" d="{}" fill="{}" stroke="{}" stroke-width="1.4"><title>{}</title></path>'
        path = shape(marker, self.x(row.mean), y)
        fill, edge = (PANEL, look.colour) if alone else (look.colour, PANEL)
        self.parts.append(Markup(mark).format("hollow" if alone else "mark", colour, path, fill, edge, words))

    def _foot(self) -> None:
        for value, words in self.axis.ticks:
            self._text(self.x(value), self.top + 16, words, "middle", soft=True)
        zero, half = self.x(0.0), 18 * _LETTER
        left, right = "\N{LEFTWARDS ARROW} baseline higher", "source higher \N{RIGHTWARDS ARROW}"
        at = min(max(zero, self.left + half), self.right - half)
        self._text(at - 8, self.top + 34, left, "end", soft=True)
        self._text(at + 8, self.top + 34, right, soft=True)
        self.top += 42

    def _text(self, x: float, y: float, words: str, where: str = "start", soft: bool = False) -> None:
        text = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}">{}</text>')
        self.parts.append(text.format("soft" if soft else "ink", x, y, where, SOFT if soft else INK, words))


def _axis(rows: Sequence[Row], ticks: int) -> Axis:
    """Cover all means, and the intervals of at least five pairs; those of fewer widen it threefold at most."""
    firm = [0.0, *(row.mean for row in rows)]
    firm += [end for row in rows if row.n >= FEW_VALUES and row.low == row.low for end in (row.low, row.high)]
    low, high = min(firm), max(firm)
    reach = max(high - low, 1.0)
    few = [
        min(max(end, low - reach), high + reach) for row in rows if row.low == row.low for end in (row.low, row.high)
    ]
    return axis("", [*firm, *few], most=ticks)


def _cut(words: str, pixels: float) -> str:
    """Shorten words that are wider than this many pixels, in their middle: names often differ at their ends."""
    room = max(int(pixels / _LETTER), 5)
    return (
        words
        if len(words) <= room
        else f"{words[: room // 2]}\N{HORIZONTAL ELLIPSIS}{words[-(room - room // 2 - 1) :]}"
    )
