"""Canonical JSON: exactly one byte string per value, so that its hash can serve as an identity."""

import hashlib
import json
import math
from collections.abc import Mapping


def canonical_json(value: object) -> str:
    """Encode ``value`` such that equal values give equal text: sorted keys, no spaces, ASCII only.

    Accepts None, bool, int, finite float, str, list, tuple and mappings with string keys.

    Raises:
        TypeError: for any other type, with the path of the value. An identity must not depend on how a library
            formats an object.
        ValueError: for NaN and infinities, which JSON cannot represent.
    """
    return json.dumps(_plain(value, "$"), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object) -> str:
    """Return the sha256 of ``canonical_json(value)`` as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _plain(value: object, path: str) -> object:
    """Convert a value to plain JSON types, checking every part."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"expected every number in an identity to be finite; {path} is {value}")
        return value + 0.0  # -0.0 is 0.0
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"expected string keys in an identity; {path} has the key {key!r}")
        return {key: _plain(item, f"{path}.{key}") for key, item in value.items()}
    raise TypeError(
        f"expected a value with a canonical form; {path} is a {type(value).__name__}. "
        "Fix: convert it to numbers, strings, lists or dictionaries"
    )
