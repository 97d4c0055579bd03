"""Handling of the signals that stop a command."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signals_to(handle: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Call ``handle`` on SIGINT, SIGTERM and SIGHUP. Ignored signals (nohup) stay ignored.

    Does nothing outside the main thread, which alone can handle signals.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        handle(signal.Signals(number))

    with unchanged_signals() as before:
        for number, old in before.items():
            if old is not signal.SIG_IGN:
                signal.signal(number, on_signal)
        yield


@contextmanager
def unchanged_signals(numbers: Iterable[signal.Signals] = STOP_SIGNALS) -> Iterator[Mapping[signal.Signals, Any]]:
    """Restore the handlers of signals, by default those that stop a command, on exit; yield them by signal.

    Does nothing outside the main thread. Handlers that were not installed from Python are left alone.
    """
    mine = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in numbers if mine}
    before = {number: old for number, old in handlers.items() if old is not None}
    try:
        yield before
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a stop signal has arrived. A second one raises KeyboardInterrupt."""
    received: list[signal.Signals] = []

    def handle(number: signal.Signals) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    with stop_signals_to(handle):
        yield lambda: bool(received)


def leave_to_system() -> None:
    """Let stop signals end this process silently, for the time when only the interpreter's shutdown is left."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def interrupt(_: signal.Signals) -> None:
    """Raise KeyboardInterrupt, as Python does on Ctrl-C."""
    raise KeyboardInterrupt
