"""Downloads on the terminal: one bar a file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from jobs.download import Progress as OnProgress


@contextmanager
def download_bars(console: Console) -> Iterator[Callable[[str], OnProgress]]:
    """While the block runs, a function from a file's name to what ``jobs.download.download`` calls with its progress.

    A bar appears with the first byte, so that a file that is here already has none; into a pipe there are none.
    """
    if not console.is_terminal:  # older versions of rich end a display that they do not show with an empty line
        yield lambda name: lambda here, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:

        def bar_of(name: str) -> OnProgress:
            task = bars.add_task(name, visible=False)
            return lambda here, total: bars.update(task, completed=here, total=total, visible=True)

        yield bar_of
