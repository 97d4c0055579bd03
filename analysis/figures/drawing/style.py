"""Colours, markers, dashes and fills: curves can also be distinguished without seeing colours."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

COLOURS = ("#0502a5", "#ab5b00", "#0ab770", "#03000d", "#4884f7", "#6d552e", "#330042", "#004c43")
"""Any two differ by nine units or more of lightness (CIE L*), so that they differ in grey, and by 22 units or more of
CIE L*a*b* for readers with any of three types of colour blindness (simulated after Machado et al. 2009)."""

DARK_COLOURS = ("#43a7fc", "#e86405", "#1dd351", "#fafcff", "#b6d0ef", "#8b7450", "#a43399", "#9df8be")
"""The same series on a dark page, with about the same hues and the same differences."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (4, 1.5),
    (1, 1.2),
    (5, 1.2, 1, 1.2),
    (8, 2),
    (2.5, 1, 1, 1, 1, 1),
    (2, 2.5),
    (8, 1.5, 2.5, 1.5),
)
FILLS: tuple[Any, ...] = ("full", "none", "left", "top")
"""Fill styles of markers, by variant, as named in matplotlib."""

PAPER = ("cifar100", "cifar10", "svhn", "fmnist", "kmnist", "mnist", "digits")
"""The paper's order of datasets, followed by the bundled one."""

PLAIN_TEXT: Any = {"text.parse_math": False}
"""matplotlib parameters for every drawing. Math is not parsed, so that names such as ``$x$`` are shown unchanged."""

WIDTH_INCHES = 5.5
"""Width of every figure: the text width of the paper."""

SMALLEST_POINTS = 6.0
"""Smallest font size, at that width."""


class Look(NamedTuple):
    """How a series is drawn."""

    colour: str
    marker: str


def looks(series: Sequence[str], order: Sequence[str] = ()) -> dict[str, Look]:
    """Return a look for each series of a legend, no two alike.

    Args:
        series: as in the legend; may contain duplicates.
        order: all names of this kind in a report. A series has the look of its position in it, so that it looks the
            same in all figures. If a name is missing in it, or its position exceeds the number of colours, every
            series has the look of its position in the legend.
    """
    names = list(dict.fromkeys(series))
    places = {name: order.index(name) for name in names if name in order}
    if len(places) < len(names) or max(places.values(), default=0) >= len(COLOURS):
        places = {name: place for place, name in enumerate(names)}
    return {name: _look(place) for name, place in places.items()}


def ordered(names: Iterable[str]) -> list[str]:
    """Return the distinct names: the paper's datasets in its order, then others sorted by name."""
    return sorted(set(names), key=lambda name: (PAPER.index(name) if name in PAPER else len(PAPER), name))


def numbers_of(place: int) -> tuple[int, int]:
    """Return the numbers of colour and marker at a place: 64 pairs, of which the first eight differ in both."""
    turn, colour = divmod(place, len(COLOURS))
    return colour, (colour + turn) % len(MARKERS)


def _look(place: int) -> Look:
    colour, marker = numbers_of(place)
    return Look(COLOURS[colour], MARKERS[marker])
