"""Text from elsewhere as a terminal may show it: reasons, hosts and names can hold what terminals obey. No torch."""

import re

_COLOURS = re.compile("\x1b\\[[0-9;:]*m")
"""Of logs; they hide nothing once they are gone."""
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and newline, DEL, C1: escapes, bells, carriage returns
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # what turns the direction of reading, or breaks lines
    "\ud800-\udfff]"  # bytes of names that are no text, which no stream encodes
)


def one_line(text: str) -> str:
    """Printable text of a record or name within a line of ours: its own line ends are written out, and begin no line
    that would read as ours.
    """
    return printable(text).replace("\n", "\\u000a")


def printable(text: str) -> str:
    r"""Text without colours, in which what a terminal would obey is written out: ``\u001b``."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", _COLOURS.sub("", text).replace("\r\n", "\n"))
