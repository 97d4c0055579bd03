"""Progress of a launch: counts, rate and time left, as a live line in a terminal and as plain lines elsewhere."""

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

PLAIN_SECONDS = 10.0
"""Interval between plain lines."""


@dataclass
class Tallies:
    """Numbers of trials of one launch."""

    planned: int
    done_before: int = 0
    failed_before: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> int:
        return self.planned - self.done_before - self.failed_before - self.done - self.failed

    def rate(self, now: float) -> float:
        """Return the finished trials per second in this launch."""
        return (self.done + self.failed) / max(now - self.started, 1e-9)

    def line(self, now: float) -> str:
        """Return one line: ``done 12/80 · failed 0 · running 2 · 31/min · 2m 10s left``."""
        rate = self.rate(now)
        left = f"{duration(self.left / rate)} left" if rate else "time left unknown"
        done, failed = self.done_before + self.done, self.failed_before + self.failed
        return f"done {done}/{self.planned} · failed {failed} · running {self.running} · {rate * 60:.0f}/min · {left}"


def duration(seconds: float) -> str:
    """Format seconds: ``45s``, ``2m 10s``, ``3h 05m``, ``2d 4h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


class ProgressView:
    """Context manager that shows tallies while a launch runs. ``update`` is cheap and may be called often."""

    def __init__(self, tallies: Tallies, console: Console) -> None:
        self._tallies = tallies
        self._console = console
        self._live = Live(self._render(), console=console, refresh_per_second=2) if console.is_terminal else None
        self._last = float("-inf")

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.update(final=True)
        if self._live:
            self._live.stop()

    def update(self, final: bool = False) -> None:
        """Show the current tallies."""
        now = time.monotonic()
        if self._live:
            self._live.update(self._render())
        elif final or now - self._last >= PLAIN_SECONDS:
            self._console.print(self._tallies.line(now), highlight=False)
            self._last = now

    def _render(self) -> Table:
        tallies = self._tallies
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(tallies.planned, 1), completed=tallies.done_before + tallies.done, width=30)
        grid.add_row(bar, tallies.line(time.monotonic()))
        return grid
