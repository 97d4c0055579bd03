"""Numbers as text: estimates, durations, and the numbers of a row."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_TINY = 0.001


def rounded(value: float, digits: int = 3) -> str:
    """Format a number with so many significant digits, in full, never with a power of ten: ``2,550``, ``0.0000538``."""
    return format(Decimal(format(value, f".{digits}g")), ",f")


def about(value: float) -> str:
    """Format an estimate: ``about 2,550``, or ``less than 0.001``."""
    return f"less than {_TINY}" if 0 < value < _TINY else f"about {rounded(value)}"


def duration(seconds: float) -> str:
    """Format seconds: ``45s``, ``2m 10s``, ``3h 05m``, ``2d 4h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def numbers_of(row: Mapping[str, Any]) -> str:
    """Format the scalar numbers of a row, without lists and images."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.6g}" for name, value in row.items() if isinstance(value, int | float)
    )
