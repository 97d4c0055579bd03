"""Canonical JSON: one byte string for one value, so that a hash of it can be an identity."""

import hashlib
import json
import math
from collections.abc import Mapping


def canonical_json(value: object) -> str:
    """Encode ``value`` so that equal values give equal text: sorted keys, no spaces, ASCII only.

    Accepts None, bool, int, finite float, str, list, tuple and mappings with string keys.

    Raises:
        TypeError: for any other type, with the path to it: an identity must not depend on how some
            library happens to print an object.
        ValueError: for NaN and infinities, which JSON cannot say.
    """
    return json.dumps(_plain(value, "$"), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object) -> str:
    """The sha256 of ``canonical_json(value)``, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _plain(value: object, path: str) -> object:
    """The value in json's own types, every part of it looked at."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a number in an identity must be finite; {path} is {value}")
        return value + 0.0  # -0.0 is 0.0
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"keys in an identity must be strings; {path} has the key {key!r}")
        return {key: _plain(item, f"{path}.{key}") for key, item in value.items()}
    raise TypeError(
        f"{path} is a {type(value).__name__}, which has no canonical form; "
        "turn it into numbers, strings, lists or dictionaries first"
    )
