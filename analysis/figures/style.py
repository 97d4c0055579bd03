"""Colours, markers and dashes: three ways to tell curves apart, so that none depends on seeing colour."""

from collections.abc import Sequence
from typing import Any, NamedTuple

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07A00", "#000000", "#56B4E9", "#7F3C8D")
"""After Okabe and Ito (2008): distinct with the common kinds of colour blindness; their orange is darkened and
their yellow replaced, which are too light on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1, 1.2), (5, 1.2, 1, 1.2))
_PAPER = ("cifar100", "cifar10", "svhn", "fmnist", "kmnist", "mnist", "digits")


PLAIN_TEXT: Any = {"text.parse_math": False}
"""matplotlib's parameters of every drawing: a source named ``$x$`` is no formula, nor an error where it is none."""


class Look(NamedTuple):
    """How a series is drawn."""

    colour: str
    marker: str


def looks(series: Sequence[str]) -> dict[str, Look]:
    """A look for each series. The paper's datasets keep theirs in every figure, whatever else is shown."""
    names = list(dict.fromkeys(series))
    places = {name: _PAPER.index(name) for name in names if name in _PAPER}
    free = [place for place in range(len(COLOURS)) if place not in places.values()] or list(range(len(COLOURS)))
    strangers = [name for name in names if name not in places]
    places |= {name: free[index % len(free)] for index, name in enumerate(strangers)}
    return {name: Look(COLOURS[places[name] % len(COLOURS)], MARKERS[places[name] % len(MARKERS)]) for name in names}
