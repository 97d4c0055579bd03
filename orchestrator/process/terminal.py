"""Terminal output with control characters escaped."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from jobs.system.printable import printable
from orchestrator.process.streams import on_terminal

PIPE_WIDTH = 200
"""Width in characters of tables written to a pipe or file, where no terminal limits it."""


class Terminal(Console):
    """A console for untrusted text: no markup, no emoji, control characters escaped (``jobs.system.printable``)."""

    def __init__(self, **options: Any) -> None:
        self.forced: bool | None = options.get("force_terminal")
        super().__init__(**{"highlight": False, "soft_wrap": True, "markup": False, "emoji": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with text made printable. Rich's own cursor control segments pass unchanged."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def can_redraw(console: Console) -> bool:
    """Whether a display that redraws itself may be shown: on a terminal that can move its cursor.

    Unlike ``Console.is_terminal``, FORCE_COLOR does not turn a pipe into a terminal.
    """
    forced = getattr(console, "forced", None)
    terminal = console.file.isatty() if forced is None else forced
    return terminal and not console.is_dumb_terminal and not console.quiet


def for_tables() -> Terminal:
    """Return a console for tables on standard output."""
    return Terminal(width=None if on_terminal() else PIPE_WIDTH)
