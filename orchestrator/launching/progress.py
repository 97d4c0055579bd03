"""Progress of a launch: counts, rate, time left and what runs, live in a terminal or notebook, as plain
lines elsewhere."""

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from jobs.system.printable import one_line
from orchestrator.planning.trial_names import short_name
from orchestrator.process.notebook import Notebook
from orchestrator.process.numbers_as_text import duration
from orchestrator.process.terminal import can_redraw

PLAIN_SECONDS = 10.0
"""Interval between plain lines."""
NOTEBOOK_SECONDS = 1.0
"""Interval between two states of the line in a notebook."""
_WAIT_SECONDS = 20.0
"""Time without a running trial after which a launch says what it waits for."""
_NAMED = 2
"""Number of running trials that a line names."""
_MOST_WIDTH = 80
"""Width in characters of the bar in a wide terminal."""


@dataclass
class Tallies:
    """Numbers of trials of one launch, and their work."""

    planned: int
    done_before: int = 0
    failed_before: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    names: tuple[str, ...] = ()
    """Ids of running trials."""
    last_ran: float = float("-inf")
    """When a trial was last running, in the time of ``started``."""
    share: str = ""
    """What an actor needs of a machine now: ``1 CPU and 0.5 GPU``; empty if unknown."""
    operations: float = 0.0
    """Planned operations of the trials that the launch runs; 0 if unknown: all trials count alike."""
    operations_done: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> int:
        return self.planned - self.done_before - self.failed_before - self.done - self.failed

    def rate(self, now: float) -> float:
        """Return the finished trials per second in this launch."""
        return (self.done + self.failed) / max(now - self.started, 1e-9)

    def line(self, now: float) -> str:
        """Return one line: ``done 12/80 · failed 0 · running 2 · 31/min · 2m 10s left``."""
        rate, seconds = self.rate(now), None if self._waits(now) else self._seconds_left(now)
        left = "time left unknown" if seconds is None else f"{duration(seconds)} left"
        done, failed = self.done_before + self.done, self.failed_before + self.failed
        speed = f"{rate * 3600:.0f}/h" if 0 < rate * 60 < 1 else f"{rate * 60:.0f}/min"
        return f"done {done}/{self.planned} · failed {failed} · running {self.running} · {speed} · {left}"

    def _seconds_left(self, now: float) -> float | None:
        """Return the time that the remaining operations take at the pace so far, since the longest trials run first.

        That is the pace of this launch alone, which knows of its failures, too; ``status`` and the live page know what
        stands in results, of all launches of a study (``orchestrator.planning.pace``).
        """
        if not self.rate(now):
            return None
        if not self.operations_done:
            return self.left / self.rate(now)
        failed = self.failed * self.operations / (self.left + self.done + self.failed)
        missing = max(self.operations - self.operations_done - failed, 0.0) if self.left else 0.0
        return missing / self.operations_done * (now - self.started)

    def at_work(self, now: float) -> str:
        """Return what runs: ``digits-fmnist_natural-k3-n50-s20000000, +1``; empty if nothing does.

        If nothing has run for a while, say what the launch waits for.
        """
        if (seconds := self._waits(now)) is not None:
            machine = f"a machine with {self.share}" if self.share else "a machine"
            return f"waiting for {machine} to start an actor ({duration(seconds)})"
        named = [one_line(short_name(trial)) for trial in self.names[:_NAMED]]
        more = [f"+{len(self.names) - _NAMED}"] if len(self.names) > _NAMED else []
        return ", ".join([*named, *more])

    def _waits(self, now: float) -> float | None:
        """Return the seconds for which nothing has run, if trials are left and it is a while; otherwise None."""
        seconds = now - max(self.started, self.last_ran)
        return seconds if self.left and not self.running and seconds > _WAIT_SECONDS else None


class ProgressView:
    """Context manager that shows tallies while a launch runs. ``update`` is cheap and may be called often."""

    def __init__(self, tallies: Tallies, console: Console) -> None:
        self._tallies = tallies
        self._console = console
        self._live = Live(self._render(), console=console, refresh_per_second=2) if can_redraw(console) else None
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
        elif final or now - self._last >= (NOTEBOOK_SECONDS if isinstance(self._console, Notebook) else PLAIN_SECONDS):
            at_work = self._tallies.at_work(now)
            line = self._tallies.line(now) + (f" · {at_work}" if at_work else "")
            if isinstance(self._console, Notebook):
                self._console.replace(line)
            else:
                self._console.print(line, highlight=False, soft_wrap=True)
            self._last = now

    def _render(self) -> Group:
        """Return a bar, the line, and what runs; each is one line, cut where the terminal ends."""
        tallies = self._tallies
        width = min(self._console.width, _MOST_WIDTH)
        bar = ProgressBar(total=max(tallies.planned, 1), completed=tallies.done_before + tallies.done, width=width)
        now = time.monotonic()
        lines = [tallies.line(now), *filter(None, [tallies.at_work(now)])]
        return Group(bar, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))
