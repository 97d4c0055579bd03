"""Format numbers for use in sentences and in tables."""

import math
from collections.abc import Collection, Sequence

from jobs.specs.base import ALL


def counted(number: int, noun: str) -> str:
    """Return a count with its noun: ``1 cell``, ``2 cells``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def signed(value: float | None) -> str:
    """Return a difference with its sign and two decimals; nothing for None and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:+.2f}"


def interval(low: float | None, high: float | None) -> str:
    """Return the bounds of an interval of differences; nothing for None and NaN."""
    return "" if low is None or math.isnan(low) else f"{low:+.2f} to {high:+.2f}"


def delta_text(value: float) -> str:
    """Return percentage points with a minus or plus sign and two decimals, for reading."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def bounds_text(low: float, high: float) -> str:
    """Return the bounds of an interval in brackets, for reading; nothing for NaN."""
    return "" if math.isnan(low) else f"[{delta_text(low)}, {delta_text(high)}]"


def size_text(images: int) -> str:
    """Return a number of training images."""
    return "all" if images == ALL else f"{images:,}"


def depth_text(blocks: int) -> str:
    """Return which part of the network is fine-tuned."""
    return {0: "FC layer only", ALL: "all blocks", 1: "last block"}.get(blocks, f"last {blocks} blocks")


def blocks_text(blocks: int) -> str:
    """Return a number of fine-tuned blocks."""
    return "all blocks" if blocks == ALL else counted(blocks, "block")


def in_a_sentence(clauses: Sequence[str]) -> str:
    """Join clauses by semicolons to one sentence; empty without a clause."""
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def of_few(few: Collection[int], where: str = "", unit: str = "pairs", values: str = "differences") -> str:
    """Return a clause on intervals of few values: ``with only 2 to 4 pairs, an interval assumes normally ...``.

    Args:
        few: the numbers of values, at least one number.
        where: words for the cells, if others have more values.
    """
    ends = dict.fromkeys(map(str, (min(few), max(few))))
    return f"with only {' to '.join(ends)} {unit}{where}, an interval assumes normally distributed {values}"


def without_width(number: int, noun: str, values: str = "differences") -> str:
    """Return a clause on the intervals of equal values: ``in 1 cell all differences are equal: ...``."""
    return f"in {counted(number, noun)} all {values} are equal: an interval without width, not precision"
