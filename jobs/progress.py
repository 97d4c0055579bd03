"""Signs of progress: what tells a trial that takes long from one that hangs.

A batch, a step of an attack, a chunk of images that was resized: whatever is done again and again says so. Nothing is
said by a clock, which would go on when the work does not; one call into a library that takes an hour is watched
(``computing``).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[], object]] = []


def progressed() -> None:
    """Say that some work was done. Costs nothing where nobody listens."""
    for listener in _listeners:
        listener()


@contextmanager
def computing(every: float = 10.0) -> Iterator[None]:
    """Around one long call into a library: it counts as progress as long as this thread takes time of the processor.

    A thread that is stopped, or waits for a disk or a lock, takes none. On a GPU it may take none either while it waits
    for it. Where the system does not tell a thread's time (macOS), nothing is said.

    Args:
        every: seconds between two looks.
    """
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        yield
        return
    clock, ended = clock_of(threading.get_ident()), threading.Event()

    def watch() -> None:
        before = time.clock_gettime(clock)
        while not ended.wait(every):
            now = time.clock_gettime(clock)
            if now > before:
                progressed()
            before = now

    watching = threading.Thread(target=watch, name="computing", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


@contextmanager
def progress_heard_by(listener: Callable[[], object]) -> Iterator[None]:
    """Call ``listener`` at each sign of progress of this process; it must be cheap, and not raise."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
