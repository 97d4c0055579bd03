"""Format numbers for use in sentences and in tables."""

import math


def counted(number: int, noun: str) -> str:
    """Return a count with its noun: ``1 cell``, ``2 cells``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def signed(value: float | None) -> str:
    """Return a difference with its sign and two decimals; nothing for None and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:+.2f}"


def interval(low: float | None, high: float | None) -> str:
    """Return the bounds of an interval of differences; nothing for None and NaN."""
    return "" if low is None or math.isnan(low) else f"{low:+.2f} to {high:+.2f}"
