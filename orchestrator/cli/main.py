"""The command ``deltasweep``: the app with all verbs, and error handling.

Verbs are defined in one module per group. They import their dependencies inside functions, so that ``plan``, ``status``
and ``query`` never load torch.
"""

import json
import os
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Annotated, Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]  # imported there for its users
from typer.core import TyperGroup

from jobs.errors import Code, DeltaSweepError, InvalidRequest
from jobs.paths import RESULTS_VARIABLE
from jobs.system.printable import printable
from orchestrator.cli import completion, data, exit_codes, models, results, roots, studies, sweeps, trials, ui
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.output import err, one_command, out
from orchestrator.process import streams
from orchestrator.process.signals import interrupt, stop_signals_to

PROGRAM = "deltasweep"


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
    add_completion=False,  # the verb `completion` instead of two options
    pretty_exceptions_enable=False,
)
completion_init()
for group in (sweeps, trials, ui, results, roots):  # in the order of the help text
    app.add_typer(group.verbs)
app.add_typer(studies.studies, name="studies")
app.add_typer(trials.trials, name="trials")
app.add_typer(models.models, name="models")
app.add_typer(data.data, name="data")
app.add_typer(studies.verbs)
app.add_typer(completion.verbs)


def _show_version(value: bool) -> None:
    """Print the versions that decide what a launch computes, without importing the packages."""
    if value:
        parts = [f"{name} {found}" for name in ("torch", "torchvision", "ray") if (found := _version(name))]
        others = ", ".join([f"Python {python_version()}", *parts])
        out.print(f"deltasweep {_version('deltasweep') or 'not installed'} ({others})")
        raise typer.Exit


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@app.callback()
def _of_all_verbs(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the versions of DeltaSweep, Python, torch and Ray.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Run studies of transfer-learning trials and turn them into accuracy-delta curves."""


def main() -> None:
    """Run the command line and exit (``orchestrator.cli.exit_codes``).

    Every error is printed on standard error: as one message, or as one JSON object if the command line requests JSON.
    """
    warnings.formatwarning = lambda message, *_, **__: printable(f"deltasweep: warning: {message}\n")
    with streams.dependable() as standard, one_command():
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
            return int(app(prog_name=PROGRAM, standalone_mode=False) or ExitCode.ALL_DONE)
    except (KeyboardInterrupt, Interrupted):
        err.print("deltasweep: interrupted")
        return ExitCode.INTERRUPTED
    except SystemExit as ended:  # the shell's completion
        return ended.code if isinstance(ended.code, int) else ExitCode.ALL_DONE
    except Exception as error:  # noqa: BLE001  # unexpected errors are reported, too
        if exit_codes.is_help(error):  # it has been printed
            return ExitCode.WRONG_REQUEST
        return _print_error(exit_codes.of_usage(error) or exit_codes.of_any(error))


def _require_directory() -> None:
    try:
        os.getcwd()  # noqa: PTH109  # Path.cwd() is the same call
    except FileNotFoundError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE, "the current directory no longer exists. Fix: cd to an existing directory"
        ) from error


def _print_error(error: DeltaSweepError) -> ExitCode:
    """Print an error and return its exit code. If its results root is that of the environment, the message says so."""
    arguments = sys.argv[1:]
    given = any(argument.partition("=")[0] == "--results" for argument in arguments)
    if error.place.key == "--results" and not given and os.environ.get(RESULTS_VARIABLE):
        error = error.reworded(f"{error} (the root is that of ${RESULTS_VARIABLE})", f"${RESULTS_VARIABLE}")
    if exit_codes.wants_json(arguments):
        sys.stderr.write(json.dumps(error.plain()) + "\n")
    else:
        err.print(f"deltasweep: {error}")
    return exit_codes.exit_code_of(error.code)
