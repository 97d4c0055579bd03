"""Signs of progress: what tells a trial that takes long from one that hangs.

A batch, a step of an attack, a chunk of images that was resized: whatever is done again and again says so. It says
nothing from a thread of its own, which would go on when the work does not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[], object]] = []


def progressed() -> None:
    """Say that some work was done. Costs nothing where nobody listens."""
    for listener in _listeners:
        listener()


@contextmanager
def progress_heard_by(listener: Callable[[], object]) -> Iterator[None]:
    """Call ``listener`` at each sign of progress of this process; it must be cheap, and not raise."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
