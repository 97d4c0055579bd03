"""What processes of a test do; apart from the tests, so that they start quickly."""

import os
import signal
import threading
from threading import Barrier


def squared(number: int) -> int:
    return number**2


def fail_first(place: int, together: Barrier) -> None:
    """Fail in the first process; wait for it in the others."""
    if place == 0:
        raise ValueError("the first one fails")
    together.wait()


def die_first(place: int, together: Barrier) -> None:
    """Be killed in the first process; wait for it in the others."""
    if place == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    together.wait()


def hang() -> None:
    threading.Event().wait()
