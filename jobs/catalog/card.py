"""Base class and number types shared by all cards."""

from fractions import Fraction
from math import isfinite, nan
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

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


class Card(Growing):
    model_config = ConfigDict(frozen=True, extra="forbid")
