"""The end of a text that grows without limit, and reading it again and again while it grows."""

MOST_CHARACTERS = 32_000
"""Number of characters that are kept."""
_DROPPED = "characters before: "
"""Begins the first line of a kept text whose beginning was dropped."""


class Tail:
    """The end of a text that grows."""

    def __init__(self) -> None:
        self._text = ""
        self._dropped = 0

    def add(self, text: str) -> None:
        self._text += text
        if (extra := len(self._text) - MOST_CHARACTERS) > 0:
            self._text = self._text[extra:]
            self._dropped += extra

    def kept(self) -> str:
        """Return the end of the text, after a line that counts the characters before it, if there are any."""
        return (f"{_DROPPED}{self._dropped}\n" if self._dropped else "") + self._text


def new_part(kept: str, shown: int) -> tuple[str, int]:
    """Return the part of a growing text that was not shown yet, and the number of characters shown then.

    Args:
        kept: as ``Tail.kept`` returns it now.
        shown: the number of characters shown so far.
    """
    dropped = 0
    if kept.startswith(_DROPPED):
        first, _, kept = kept.partition("\n")
        number = first.removeprefix(_DROPPED)
        dropped = int(number) if number.isdecimal() else 0
    return kept[max(shown - dropped, 0) :], dropped + len(kept)
