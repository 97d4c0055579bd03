"""Canonical JSON: exactly one byte string per value, so that its hash can serve as an identity."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TypeAlias

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
_UNCHANGED = frozenset({type(None), bool, int, str})

_Path: TypeAlias = "tuple[_Path, str | int] | None"
"""Where a part of a value is: the path of what contains it, and its key or index; None: the value as a whole. It
becomes text only in messages, since a study has thousands of ids.
"""


def canonical_json(value: object) -> str:
    """Encode ``value`` such that equal values give equal text: sorted keys, no spaces, ASCII only.

    Accepts None, bool, int, finite float, str, list, tuple and mappings with string keys.

    Raises:
        TypeError: for any other type, with the path of the value. An identity must not depend on how a library
            formats an object.
        ValueError: for NaN and infinities, which JSON cannot represent.
    """
    return _ENCODER.encode(_plain(value, None))


def digest(value: object) -> str:
    """Return the sha256 of ``canonical_json(value)`` as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _plain(value: object, path: _Path) -> object:
    """Convert a value to plain JSON types, checking every part."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"expected every number in an identity to be finite; {_place(path)} is {value}")
        return value + 0.0  # -0.0 is 0.0
    if isinstance(value, list | tuple):
        return [_plain(item, (path, index)) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"expected string keys in an identity; {_place(path)} has the key {key!r}")
        return {
            key: item if type(item) in _UNCHANGED else _plain(item, (path, key))  # most parts are
            for key, item in value.items()
        }
    raise TypeError(
        f"expected a value with a canonical form; {_place(path)} is a {type(value).__name__}. "
        "Fix: convert it to numbers, strings, lists or dictionaries"
    )


def _place(path: _Path) -> str:
    """Return a path as text: ``$.recipe.layers[2]``."""
    if path is None:
        return "$"
    outer, last = path
    return _place(outer) + (f"[{last}]" if isinstance(last, int) else f".{last}")
