"""Entry point of the command ``deltasweep``. Handles signals from the start, even while modules are imported."""

import gc
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from orchestrator.process.signals import interrupt, leave_to_system, stop_signals_to

_ALLOCATIONS = 200_000
"""New objects between garbage collections. By Python's default of 700 they take a tenth of the time of imports, whose
objects all stay."""


def main() -> None:
    """Run ``orchestrator.cli.main`` and exit with its code, or with 130 if a signal arrives before or after it."""
    gc.set_threshold(_ALLOCATIONS)
    try:
        with stop_signals_to(interrupt):
            _require_own_packages()
            from orchestrator.cli import main

            main.main()
    except KeyboardInterrupt:
        with suppress(OSError):  # standard error is closed
            os.write(2, b"deltasweep: interrupted\n")
        sys.exit(130)
    finally:
        leave_to_system()
        gc.freeze()  # Python collects garbage when it ends, a second of work if torch and Ray were loaded


def _require_own_packages() -> None:
    """Exit with one line if a file of the user's has the name of one of our packages and would be imported instead."""
    for name in ("jobs", "analysis"):
        spec = find_spec(name)
        found = None if spec is None else spec.origin
        if found is None or not Path(found).samefile(Path(__file__).parents[1] / name / "__init__.py"):
            sys.stderr.write(
                f"deltasweep: expected DeltaSweep's own package {name}; {found or 'nothing'} is found instead, in a "
                "folder of $PYTHONPATH. Fix: rename it, or take its folder out of PYTHONPATH\n"
            )
            sys.exit(2)
