"""Escaping of untrusted text for the terminal: messages and names can contain control codes. No torch."""

import re

_COLOURS = re.compile("\x1b\\[[0-9;:]*m")
"""Colour codes in logs, which can be removed without losing information."""
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 except tab and newline, DEL, C1: escapes, bells, carriage returns
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # text direction marks and line separators
    "\ud800-\udfff"  # surrogates, from names that are not UTF-8; no stream can encode them
    "\ufffe\uffff]"  # no characters; XML does not allow them
)


def one_line(text: str) -> str:
    """Return printable text on one line; line breaks are escaped, so that untrusted text cannot imitate our output."""
    return printable(text).replace("\n", "\\u000a")


def printable(text: str) -> str:
    r"""Return text without colour codes and with control characters escaped, such as ``\u001b``."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", _COLOURS.sub("", text).replace("\r\n", "\n"))
