"""Untrusted text in messages and on the terminal: control codes are escaped, and long values shortened. No torch."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

_COLOURS = re.compile("\x1b\\[[0-9;:]*m")
"""Colour codes in logs, which can be removed without losing information."""
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 except tab and newline, DEL, C1: escapes, bells, carriage returns
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # text direction marks and line separators
    "\ud800-\udfff"  # surrogates, from names that are not UTF-8; no stream can encode them
    "\ufffe\uffff]"  # no characters; XML does not allow them
)
_MOST_IN_VALUE = 200
_MOST_IN_MESSAGE = 2_000
_MOST_BITS = 10_000
"""Python refuses to convert integers of more than 4,300 digits to text."""
_BRACKETS: dict[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), frozenset: ("{", "}")}


def one_line(text: str) -> str:
    """Return printable text on one line; line breaks are escaped, so that untrusted text cannot imitate our output."""
    return printable(text).replace("\n", "\\u000a")


def printable(text: str) -> str:
    r"""Return text without colour codes and with control characters escaped, such as ``\u001b``."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", _COLOURS.sub("", text).replace("\r\n", "\n"))


def brief(text: str, most: int = _MOST_IN_MESSAGE) -> str:
    """Return the beginning of a text on one line: a message may quote what strangers wrote, which can be megabytes.

    Args:
        most: the number of characters after which the rest is left out.
    """
    return one_line(text if len(text) <= most else f"{text[:most]}...")


def shown(value: object, most: int = _MOST_IN_VALUE) -> str:
    """Return a value as ``repr`` does, but shortened.

    Collections may refer to one long text many times, and Python has no text for very long integers.

    Args:
        most: the number of characters after which the rest is left out.
    """
    found = ""
    for part in _parts(value, most):
        found += part
        if len(found) > most:
            return f"{found[:most]}..."
    return found


def listing(values: Iterable[object], most: int = 100) -> str:
    """Return the first values, separated by commas; each is shortened.

    Args:
        most: the number of values after which the others are left out.
    """
    first = list(islice(values, most + 1))
    listed = [brief(value if isinstance(value, str) else shown(value), _MOST_IN_VALUE) for value in first[:most]]
    return ", ".join([*listed, *(["..."] * (len(first) > most))])


def _parts(value: object, most: int) -> Iterator[str]:
    """Yield the parts of a value's text one by one, so that only the first ones need to exist."""
    match value:
        case dict():
            yield "{"
            for number, (key, item) in enumerate(value.items()):
                yield ", " if number else ""
                yield from _parts(key, most)
                yield ": "
                yield from _parts(item, most)
            yield "}"
        case list() | tuple() | set() | frozenset():
            begin, end = next(brackets for of, brackets in _BRACKETS.items() if isinstance(value, of))
            yield begin
            for number, item in enumerate(value):
                yield ", " if number else ""
                yield from _parts(item, most)
            yield end
        case str() | bytes():
            yield repr(value[: most + 1])
        case int() if value.bit_length() > _MOST_BITS:
            yield f"an integer of {value.bit_length():,} bits"
        case _:
            yield repr(value)
