"""Base class and number types shared by all cards."""

from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from jobs.specs.growth import Growing

Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Standard deviation of a channel; images are divided by it."""


def _fraction(value: object) -> object:
    """Parse a radius written as a fraction, as in papers: ``4/255``."""
    if not isinstance(value, str):
        return value
    try:
        return float(Fraction(value))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError("expected a radius as a number or a fraction, such as 0.5 or 4/255") from error


Radius = Annotated[float, BeforeValidator(_fraction)]


class Card(Growing):
    model_config = ConfigDict(frozen=True, extra="forbid")
