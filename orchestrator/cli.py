"""The command ``deltasweep``: verbs only; what they do lies in the modules they import.

Imports stay inside the verbs, so that ``plan``, ``status`` and ``query`` answer without loading torch.
"""

import json
import sys
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from jobs.errors import DeltaSweepError, InvalidRequest
from orchestrator import cli_catalog

if TYPE_CHECKING:
    from orchestrator.launch import Summary

app = typer.Typer(
    help="Run studies of transfer-learning trials and turn them into accuracy-delta curves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_catalog.models, name="models")
app.add_typer(cli_catalog.data, name="data")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class ExitCode(IntEnum):
    """What the command's exit status means."""

    ALL_DONE = 0
    SOME_FAILED = 1
    WRONG_REQUEST = 2
    INTERRUPTED = 130


StudyName = Annotated[
    str, typer.Argument(help="A packaged study's name, or the path of a study file.", metavar="STUDY")
]
Root = Annotated[str, typer.Option("--results", help="The results root: a directory.", metavar="ROOT")]
MaybeRoot = Annotated[str | None, typer.Option("--results", help="The results root, to leave out what it has.")]
Address = Annotated[str | None, typer.Option("--address", help="A Ray cluster; by default Ray is started here.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def demo(results: Root = "demo-results") -> None:
    """Run the packaged study `demo` on bundled models and data, and report on it."""
    import analysis

    summary = _launch("demo", results, address=None, max_trials=None)
    if summary.done:
        out.print("\nAccuracy of each source minus the natural one's, in percentage points (paired t, 95 %):\n")
        out.print(analysis.formats.text(analysis.deltas(results), "table"))
        out.print(f"Report: {analysis.report(results)}")
    raise typer.Exit(_exit_code(summary))


@app.command()
def plan(study: StudyName, results: MaybeRoot = None, as_json: Json = False) -> None:
    """Say what a study amounts to: trials, work, and what of it is done already."""
    from jobs.results import done, open_store
    from orchestrator.expansion import expand
    from orchestrator.plan import describe, make_plan
    from orchestrator.study_files import load_study

    loaded = load_study(study)
    finished = done(open_store(results), "finetune") if results else set()
    made = make_plan(loaded, expand(loaded), finished)
    out.print_json(json.dumps(made._asdict())) if as_json else out.print(describe(made))


@app.command()
def launch(
    study: StudyName,
    results: Root,
    address: Address = None,
    max_trials: Annotated[int | None, typer.Option(min=1, help="Run at most so many of the pending trials.")] = None,
) -> None:
    """Run what is pending of a study, through Ray Tune."""
    raise typer.Exit(_exit_code(_launch(study, results, address, max_trials)))


@app.command()
def run(
    study: StudyName,
    trial: Annotated[str, typer.Option("--trial", help="A trial id of the study, or its last 16 digits.")],
    results: Root,
) -> None:
    """Run one trial in this process, without Ray, for debugging."""
    from jobs.results import open_store
    from orchestrator.single import run_single
    from orchestrator.study_files import load_study

    run_single(load_study(study), trial, open_store(results), out)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over evaluations, trials and failures.", metavar="SQL")],
    results: Root,
    form: Annotated[Literal["table", "csv", "json", "parquet"], typer.Option("--format")] = "table",
) -> None:
    """Ask the results a question in SQL."""
    import analysis

    table = analysis.query(results, sql)
    if form != "parquet":
        sys.stdout.write(analysis.formats.text(table, form))
    elif sys.stdout.isatty():
        raise InvalidRequest("parquet is not for a terminal; send it into a file: ... --format parquet > FILE")
    else:
        sys.stdout.buffer.write(analysis.formats.parquet(table))


@app.command()
def deltas(
    results: Root,
    baseline: Annotated[str | None, typer.Option(help="The source to subtract; by default the study's.")] = None,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format")] = "table",
) -> None:
    """Print accuracy deltas with confidence intervals."""
    import analysis

    sys.stdout.write(analysis.formats.text(analysis.deltas(results, baseline=baseline), form))


@app.command()
def report(
    results: Root,
    folder: Annotated[Path | None, typer.Option("--out", help="Where to write it; by default ROOT/report.")] = None,
) -> None:
    """Write figures, tables and a page."""
    import analysis

    out.print(f"Report: {analysis.report(results, out=folder)}")


def main() -> None:
    """Entry point: expected errors are one message and exit code 2, everything else keeps its traceback."""
    try:
        app()
    except DeltaSweepError as error:
        err.print(f"deltasweep: {error}", markup=False)
        sys.exit(ExitCode.WRONG_REQUEST)
    except KeyboardInterrupt:
        err.print("deltasweep: interrupted")
        sys.exit(ExitCode.INTERRUPTED)


def _launch(study: str, results: str, address: str | None, max_trials: int | None) -> "Summary":
    from jobs.results import open_store
    from orchestrator.study_files import load_study

    loaded, store = load_study(study), open_store(results)
    from orchestrator.launch import launch  # torch and ray: after the study is known to be right

    summary = launch(loaded, store, out, address, max_trials)
    out.print(f"{summary.done} of {summary.planned} trials are done.")
    for trial, reason in summary.failed.items():
        out.print(f"failed: {trial}: {reason}", markup=False)
    if summary.left or summary.failed:
        out.print(f"To go on: deltasweep launch {study} --results {results}")
    return summary


def _exit_code(summary: "Summary") -> ExitCode:
    if summary.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.SOME_FAILED if summary.failed else ExitCode.ALL_DONE
