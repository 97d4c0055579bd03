"""The contents of a kind's section of the report, as data that ``analysis.page`` draws, formats and writes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.figures.drawing.model import Figure
from analysis.tables.model import Table

_SHOWN = ["panel", "series", "variant", "x", "mean", "low", "high", "n"]
"""The columns of a figure's numbers that the page shows."""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One figure or picture with its numbers."""

    like: str
    """The corresponding figure or table, such as ``Table 1b of the paper``; empty if there is none."""
    name: str
    """Name of its files."""
    title: str
    caption: str
    numbers: pd.DataFrame
    columns: tuple[str, ...]
    """Headings for the columns of ``numbers``."""
    right: frozenset[str]
    """Columns of numbers, which are right-aligned."""
    figure: Figure | None = None
    """The figure to draw; None for an existing picture."""
    png: bytes | None = None
    """The picture; None for a figure, and if the picture could not be created on this machine."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A part of the page with its own heading. Figures come before pictures."""

    title: str
    exhibits: tuple[Exhibit, ...]

    @property
    def drawn(self) -> bool:
        return any(one.figure is not None for one in self.exhibits)


def _no_tables(rows: pd.DataFrame, evaluations: pd.DataFrame) -> Iterable[Table]:
    return ()


@dataclass(frozen=True, kw_only=True)
class KindExhibits:
    """How the report shows the trials of a kind; used when the kind has finished trials.

    Both functions raise DamagedFile for rows from which no figure can be made.
    """

    columns: tuple[str, ...]
    """The columns of a trial's rows that are read."""
    topics: Callable[[pd.DataFrame], Iterable[Topic]]
    """Topics from these rows, in which ``finetuned_recipe`` is a description."""
    tables: Callable[[pd.DataFrame, pd.DataFrame], Iterable[Table]] = _no_tables
    """Tables from these rows and all evaluations (``frames.frame``, with recipes as descriptions)."""


def figure_topic(figure: Figure, like: str, columns: tuple[str, ...], words: Sequence[str]) -> Topic:
    """Return a topic with one figure under its own title.

    Args:
        columns: headings for panel, series, variant, x, mean, low, high and n.
        words: the headings of columns that are not numbers.
    """
    shown = Exhibit(
        like=like,
        name=figure.name,
        title=figure.title,
        caption=figure.shows,
        numbers=figure.table()[_SHOWN],
        columns=columns,
        right=frozenset(columns) - set(words),
        figure=figure,
    )
    return Topic(title=f"Diagnostics: {figure.title[0].lower()}{figure.title[1:]}", exhibits=(shown,))


def picture_topic(title: str, exhibits: Iterable[Exhibit]) -> list[Topic]:
    """Return a topic with pictures under one title; empty if there are none."""
    shown = tuple(exhibits)
    return [Topic(title=title, exhibits=shown)] if shown else []
