"""Colours, markers, dashes and fills: ways to tell curves apart of which no two rely on seeing colour."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

COLOURS = ("#0502a5", "#ab5b00", "#0ab770", "#03000d", "#4884f7", "#6d552e", "#330042", "#004c43")
"""Each nine units or more of lightness (CIE L*) from every other, so that they differ in grey, and 22 units or more of
CIE L*a*b* from every other for readers of all three kinds of colour blindness (simulated after Machado et al. 2009)."""

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
"""Of markers, by variant: as matplotlib calls them."""

PAPER = ("cifar100", "cifar10", "svhn", "fmnist", "kmnist", "mnist", "digits")
"""The paper's order of datasets, and the bundled one."""

PLAIN_TEXT: Any = {"text.parse_math": False}
"""matplotlib's parameters of every drawing: a source named ``$x$`` is no formula, nor an error where it is none."""

WIDTH_INCHES = 5.5
"""Of every figure: the text of the paper."""

SMALLEST_POINTS = 6.0
"""Of text, at that width."""


class Look(NamedTuple):
    """How a series is drawn."""

    colour: str
    marker: str


def looks(series: Sequence[str], order: Sequence[str] = ()) -> dict[str, Look]:
    """A look for each series of a legend, no two alike.

    Args:
        series: as the legend has them; one may come several times.
        order: of all names that a report tells apart in this way. A series has the look of its place there, so that
            it keeps it in all figures; where there are more names than looks, that of its place in the legend.
    """
    names = list(dict.fromkeys(series))
    places = {name: order.index(name) for name in names if name in order}
    if len(places) < len(names) or max(places.values(), default=0) >= len(COLOURS):
        places = {name: place for place, name in enumerate(names)}
    return {name: _look(place) for name, place in places.items()}


def ordered(names: Iterable[str]) -> list[str]:
    """Names once each: the paper's datasets as it lists them, then others by name."""
    return sorted(set(names), key=lambda name: (PAPER.index(name) if name in PAPER else len(PAPER), name))


def _look(place: int) -> Look:
    """The colours once with each marker: 64 that differ, the first eight in both."""
    turn, colour = divmod(place, len(COLOURS))
    return Look(COLOURS[colour], MARKERS[(colour + turn) % len(MARKERS)])
