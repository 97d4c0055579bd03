"""Entry point of the command ``deltasweep``. Handles signals from the start, even while modules are imported."""

import os
import sys
from contextlib import suppress

from orchestrator.own_packages import other_package
from orchestrator.process.signals import interrupt, leave_to_system, stop_signals_to


def main() -> None:
    """Run ``orchestrator.cli.main`` and exit with its code, or with 130 if a signal arrives before or after it."""
    try:
        with stop_signals_to(interrupt):
            if message := other_package():
                sys.stderr.write(f"deltasweep: {message}\n")
                sys.exit(2)
            from orchestrator.cli import main

            main.main()
    except KeyboardInterrupt:
        with suppress(OSError):  # standard error is closed
            os.write(2, b"deltasweep: interrupted\n")
        sys.exit(130)
    finally:
        leave_to_system()
