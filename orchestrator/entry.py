"""Where the command ``deltasweep`` begins: signals end it in one way from here on, also while modules are imported."""

import os
import signal
import sys
from contextlib import suppress

from orchestrator.signals import STOP_SIGNALS, interrupt, stop_signals_to


def main() -> None:
    """Run ``orchestrator.cli``; exits with its code, or with 130 where a signal came before or after its work."""
    try:
        with stop_signals_to(interrupt):
            from orchestrator import cli

            cli.main()
    except KeyboardInterrupt:
        with suppress(OSError):  # nobody listens
            os.write(2, b"deltasweep: interrupted\n")
        sys.exit(130)
    finally:
        _leave_signals_to_the_system()


def _leave_signals_to_the_system() -> None:
    """All that is left is Python's own end: what interrupts it has nothing to say."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
