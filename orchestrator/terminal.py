"""The terminal: what is printed there is shown and not obeyed, whoever wrote it."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from jobs.printable import printable
from orchestrator.streams import on_terminal

PIPE_WIDTH = 200
"""Characters a line of a table that goes into a pipe or file: nothing is cut to a terminal that is not there."""


class Terminal(Console):
    """A console for text from anywhere: no markup, no emoji, and controls written out (``jobs.printable``)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "soft_wrap": True, "markup": False, "emoji": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does it, each piece of text made printable; rich's own control of the cursor is no text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def for_tables() -> Terminal:
    """Standard output for tables."""
    return Terminal(width=None if on_terminal() else PIPE_WIDTH)
