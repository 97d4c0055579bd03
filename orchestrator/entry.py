"""Entry point of the command ``deltasweep``. Handles signals from the start, even while modules are imported."""

import gc
import os
import sys
from contextlib import suppress

from orchestrator.own_packages import other_package
from orchestrator.process.signals import interrupt, leave_to_system, stop_signals_to

_ALLOCATIONS = 200_000
"""New objects between garbage collections. By Python's default of 700 they take a tenth of the time of imports, whose
objects all stay."""


def main() -> None:
    """Run ``orchestrator.cli.main`` and exit with its code, or with 130 if a signal arrives before or after it."""
    gc.set_threshold(_ALLOCATIONS)
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
        gc.freeze()  # Python collects garbage when it ends, a second of work if torch and Ray were loaded
