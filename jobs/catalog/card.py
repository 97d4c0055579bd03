"""Base class of all cards, and the types of numbers and file names that they share."""

import re
from fractions import Fraction
from math import isfinite, nan
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from jobs.specs.growth import Growing

Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Standard deviation of a channel; images are divided by it."""
_MOST_CHARACTERS = 1_000


def _fraction(value: object) -> object:
    """Parse a radius written as a fraction, as in papers: ``4/255``.

    Decimal numbers are no fractions here: ``Fraction`` would write out all digits of ``1e9999999999``.
    """
    if not isinstance(value, str):
        return value
    written = value if len(value) <= _MOST_CHARACTERS else ""
    try:
        radius = float(Fraction(written)) if "/" in written else float(written) + 0.0  # -0.0 is 0.0
    except (ValueError, ZeroDivisionError, OverflowError):
        radius = nan
    if not isfinite(radius):
        raise ValueError("expected a radius as a number or a fraction, such as 0.5 or 4/255")
    return radius


Radius = Annotated[float, BeforeValidator(_fraction)]

_NOT_IN_NAMES = re.compile(r"[\\\x00-\x1f\x7f-\x9f]")


def _inside(path: str) -> str:
    """Refuse a path that may lead out of its folder. Cards may come from strangers."""
    if _NOT_IN_NAMES.search(path) or any(name in ("", ".", "..") for name in path.split("/")):
        raise ValueError(
            "expected a relative path of a file: names joined by `/`, none of them empty, `.` or `..`, without "
            "backslashes and control characters"
        )
    return path


def _single(name: str) -> str:
    if "/" in name:
        raise ValueError("expected the name of a file, without folders")
    return name


RelativePath = Annotated[str, AfterValidator(_inside)]
"""Path of a file in a folder of DeltaSweep's own, which cannot lead out of it."""

FileName = Annotated[str, AfterValidator(_single), AfterValidator(_inside)]
"""Name of a file in such a folder."""


class Card(Growing):
    model_config = ConfigDict(frozen=True, extra="forbid")
