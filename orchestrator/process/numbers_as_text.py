"""Numbers as text: durations, and the numbers of a row."""

from collections.abc import Mapping
from typing import Any


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
