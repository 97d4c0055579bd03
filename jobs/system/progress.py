"""Progress reports, which distinguish a slow trial from one that hangs.

Every repeated piece of work reports progress: a batch, a step of an attack, a chunk of resized images. A timer is not
used, because it would keep reporting when the work has stopped; a single library call that takes an hour is monitored
by ``computing``.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[], object]] = []


def progressed() -> None:
    """Report that some work was done; costs almost nothing if there are no listeners."""
    for listener in _listeners:
        listener()


@contextmanager
def computing(every: float = 10.0) -> Iterator[None]:
    """Report progress during one long library call as long as this thread uses CPU time.

    A thread that is stopped, or waits for a disk or a lock, uses none. It may also use none while it waits for a GPU.
    Where the system does not provide a thread's CPU time (macOS), nothing is reported.

    Args:
        every: interval between checks, in seconds.
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
    """Call ``listener`` at each progress report of this process; it must be cheap and must not raise."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
