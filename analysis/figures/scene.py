"""What a figure of the paper shows of the results: sources, depths and sizes that have pairs, own trials first."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, combinations

import pandas as pd

from analysis.evaluations.frames import HEADLINE_BLOCKS, at_epoch, headline_blocks, shared_blocks, whole_last
from analysis.figures.roles import Role
from analysis.paired.pairing import CELL, cells_with_pairs
from analysis.words import blocks_text
from jobs.errors import Code, InvalidRequest
from jobs.specs.base import ALL

WITHOUT_BLOCKS = tuple(key for key in CELL if key != "blocks")
"""What paired trials of two depths share besides the seed."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The input of all figures.

    Its choices are made among what has pairs of own trials; if nothing has, among what has pairs of imported ones; if
    nothing has, among all trials.
    """

    data: pd.DataFrame
    parts: dict[Role, str]
    _paired: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict, init=False, repr=False)
    """The cells with pairs of two sources, which several figures compare."""

    def of(self, source: str, blocks: int) -> pd.DataFrame:
        """Return all evaluations of a source at some number of blocks."""
        return at_blocks(self.data[self.data["source"] == source], blocks)

    def blocks(self, *compared: tuple[str, str]) -> int:
        """Return the number of blocks of a figure that makes some comparisons: three, or else the largest.

        Raises:
            InvalidRequest: if their sources have no number of blocks in common.
        """
        names = list(dict.fromkeys(chain.from_iterable(compared)))
        paired = [self._cells(source, baseline) for source, baseline in compared]
        found = (
            _in_all(_own(cells)["blocks"] for cells in paired)
            or _in_all(cells["blocks"] for cells in paired)
            or shared_blocks(self.data, names)
        )
        if not found:
            raise InvalidRequest(
                Code.NO_ANSWER,
                f"needs trials of {', '.join(names)} with one number of fine-tuned blocks; there is no such number",
                key="blocks",
            )
        return headline_blocks(found)

    def size(self, source: str, baseline: str, blocks: int, wanted: int) -> int:
        """Return the size of a subset that is nearest to ``wanted``, by ratio.

        Raises:
            InvalidRequest: if there is none of both sources.
        """
        arms = [at_blocks(self._last(name), blocks) for name in (source, baseline)]
        arms = [arm[arm["images"] != ALL] for arm in arms]
        cells = at_blocks(self._cells(source, baseline), blocks)
        cells = cells[cells["images"] != ALL]
        found = set(_own(cells)["images"]) or set(cells["images"]) or _in_all(arm["images"] for arm in arms)
        if not found:
            raise InvalidRequest(
                Code.NO_ANSWER,
                f"shows subsets of about {wanted:,} images of both sources; there are none",
                key="images",
            )
        return int(min(sorted(found), key=lambda size: max(size / wanted, wanted / size)))

    def two_depths(self, source: str) -> tuple[int, int]:
        """Return two numbers of blocks: three and one, or else those farthest apart, the larger one first.

        Raises:
            InvalidRequest: if the source has only one.
        """
        last = self._last(source)
        present = sorted(set(last["blocks"]), key=whole_last)
        if len(present) < 2:
            raise InvalidRequest(
                Code.NO_ANSWER,
                f"compares numbers of fine-tuned blocks; the results have only {blocks_text(present[0])}",
                key="blocks",
            )
        place = {depth: number for number, depth in enumerate(present)}
        both = sorted(
            ((high, low) for low, high in combinations(present, 2)),
            key=lambda two: (two != (HEADLINE_BLOCKS, 1), place[two[1]] - place[two[0]], place[two[1]]),
        )
        for trials in (_own(last), last):
            for high, low in both:
                if len(cells_with_pairs(at_blocks(trials, high), at_blocks(trials, low), WITHOUT_BLOCKS)):
                    return high, low
        return both[0]

    def _cells(self, source: str, baseline: str) -> pd.DataFrame:
        """Return the cells in which the last evaluations of two sources have pairs."""
        arms = source, baseline
        if arms not in self._paired:
            self._paired[arms] = cells_with_pairs(self._last(source), self._last(baseline))
        return self._paired[arms]

    def _last(self, source: str) -> pd.DataFrame:
        return at_epoch(self.data[self.data["source"] == source], "last")


def at_blocks(rows: pd.DataFrame, blocks: int) -> pd.DataFrame:
    return rows[rows["blocks"] == blocks]


def _own(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["origin"] != "imported"]


def _in_all(columns: "Iterable[pd.Series[int]]") -> set[int]:
    return set.intersection(*map(set, columns))
