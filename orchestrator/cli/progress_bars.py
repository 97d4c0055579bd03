"""Progress bars: for downloads, one per file; for images that are read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from jobs.system.download import Progress as OnProgress
from orchestrator.process.terminal import can_redraw


@contextmanager
def download_bars(console: Console) -> Iterator[Callable[[str], OnProgress]]:
    """Yield a function that maps a file's name to the progress callback for ``jobs.system.download``.

    A bar appears with the first byte, so files that need no download have none. Nothing is shown outside a terminal.
    """
    if not can_redraw(console):  # older versions of rich print an empty line at the end of a hidden display
        yield lambda name: lambda here, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:

        def bar_of(name: str) -> OnProgress:
            task = bars.add_task(name, visible=False)
            return lambda here, total: bars.update(task, completed=here, total=total, visible=True)

        yield bar_of


@contextmanager
def counting_bar(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield the callback of a bar: how many of how many are done. Nothing is shown outside a terminal."""
    if not can_redraw(console):
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
