"""The command ``deltasweep``: the app with all verbs, and error handling.

Verbs are defined in one module per group. They import their dependencies inside functions, so that ``plan``, ``status``
and ``query`` never load torch.
"""

import json
import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from jobs.errors import Code, DeltaSweepError, InvalidRequest
from jobs.system.printable import printable
from orchestrator.cli import data, exit_codes, models, results, roots, sweeps, trials, ui
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.output import err
from orchestrator.process import streams
from orchestrator.process.signals import interrupt, stop_signals_to


class Interrupted(Exception):
    """A stop signal arrived. Raised instead of KeyboardInterrupt, which click would convert to its own exit code."""


class Commands(TyperGroup):
    """The group of all commands. Replaces KeyboardInterrupt by ``Interrupted``."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


app = typer.Typer(
    cls=Commands,
    help="Run studies of transfer-learning trials and turn them into accuracy-delta curves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (sweeps, trials, ui, results, roots):  # in the order of the help text
    app.add_typer(group.verbs)
app.add_typer(models.models, name="models")
app.add_typer(data.data, name="data")


def main() -> None:
    """Run the command line and exit (``orchestrator.cli.exit_codes``).

    Every error is printed as one message on standard error and, if the command line requests JSON, as one JSON object
    on standard output.
    """
    warnings.formatwarning = lambda message, *_, **__: printable(f"deltasweep: warning: {message}\n")
    with streams.dependable() as standard:
        code = _run()
        if (lost := standard.lost) is not None:
            err.print(f"deltasweep: standard output is incomplete: {lost.strerror}")
            code = code or ExitCode.TRY_AGAIN
    sys.exit(code)


def _run() -> int:
    """Run the command line and return its exit code."""
    try:
        with stop_signals_to(interrupt):
            _require_directory()
            app()
    except (KeyboardInterrupt, Interrupted):
        err.print("deltasweep: interrupted")
        return ExitCode.INTERRUPTED
    except SystemExit as ended:
        if (wrong := exit_codes.of_usage(ended)) is not None:
            _print_if_asked(wrong)
        return ended.code if isinstance(ended.code, int) else ExitCode.ALL_DONE
    except Exception as error:  # noqa: BLE001  # unexpected errors are reported, too
        expected = exit_codes.of_any(error)
        err.print(f"deltasweep: {expected}")
        _print_if_asked(expected)
        return exit_codes.exit_code_of(expected.code)
    return ExitCode.ALL_DONE


def _require_directory() -> None:
    try:
        os.getcwd()  # noqa: PTH109  # Path.cwd() is the same call
    except FileNotFoundError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE, "the current directory no longer exists. Fix: cd to an existing directory"
        ) from error


def _print_if_asked(error: DeltaSweepError) -> None:
    if exit_codes.wants_json(sys.argv[1:]):
        sys.stdout.write(json.dumps(error.plain()) + "\n")
