"""Signals that ask a command to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signals_to(handle: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP call ``handle``; those that are ignored (nohup) stay ignored.

    Signals are the main thread's: in any other this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        handle(signal.Signals(number))

    before = {number: signal.getsignal(number) for number in _STOP}
    heeded = {number: old for number, old in before.items() if old not in (None, signal.SIG_IGN)}
    for number in heeded:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, old in heeded.items():
            signal.signal(number, old)


def interrupt(_: signal.Signals) -> None:
    """What Python does at Ctrl-C."""
    raise KeyboardInterrupt
