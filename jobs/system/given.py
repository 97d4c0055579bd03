"""Values as users of Python give them: numbers of numpy, digits as text, one value in place of several."""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from jobs.errors import Code, InvalidRequest


def several(value: Any) -> list[Any]:
    """Return one value, such as a text, or several (a list, an array, a column of pandas) as a list."""
    value = _plain(value)
    return [value] if isinstance(value, str | bytes) or not isinstance(value, Iterable) else [*value]


def whole(value: Any) -> Any:
    """Return the integer that a value stands for: one of numpy, a float without a fraction, digits as text.

    Every other value is returned as it is.
    """
    value = _plain(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,18}", value):
        return int(value)
    return value


def number(value: Any, key: str) -> Any:
    """Return the number that a value stands for, as ``whole`` does, also one with a fraction; None stays None.

    Args:
        key: the option, for the message.

    Raises:
        InvalidRequest: if it is no number.
    """
    found = whole(value)
    if isinstance(found, str):
        with suppress(ValueError):
            found = float(found)
    if isinstance(found, bool) or not isinstance(found, int | float | None):
        raise InvalidRequest(Code.WRONG_VALUE, f"expected {key} as a number; got {value!r}", key=key)
    return found


def _plain(value: Any) -> Any:
    """Return a number, array or column of numpy or pandas as Python's own values."""
    return value.tolist() if hasattr(value, "tolist") else value
