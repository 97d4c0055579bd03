"""Signals that ask a command to stop."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signals_to(handle: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP call ``handle``; those that are ignored (nohup) stay ignored.

    Signals are the main thread's: in any other this does nothing.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        handle(signal.Signals(number))

    with unchanged_signals() as before:
        for number, old in before.items():
            if old is not signal.SIG_IGN:
                signal.signal(number, on_signal)
        yield


@contextmanager
def unchanged_signals() -> Iterator[Mapping[signal.Signals, Any]]:
    """Whatever is done to these signals inside, they do afterwards what they did before: that is what is yielded.

    Nothing in any but the main thread. What is not Python's to handle is left alone.
    """
    mine = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in STOP_SIGNALS if mine}
    before = {number: old for number, old in found.items() if old is not None}
    try:
        yield before
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def interrupt(_: signal.Signals) -> None:
    """What Python does at Ctrl-C."""
    raise KeyboardInterrupt
