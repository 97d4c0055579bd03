"""Verbs that read or import results: ``query``, ``deltas``, ``report``, ``import-trials``."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.errors import Code, InvalidRequest
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.options import Json, Quiet, Root, path
from orchestrator.cli.output import notes, print_json, table_text, tell_failed

verbs = typer.Typer()

_REPORT_PLACE = (
    "Output directory; by default ROOT/report, or NAME-report in the current directory for a root in an object store."
)

_FORM = typer.Option("--format", help="Format of the output; by default a table.")


def _start_no_threads() -> None:
    """Keep numpy and scipy from starting threads for linear algebra, of which analysis has next to none; called before
    they are imported. The threads take a tenth of the processor time of ``report`` on two cores.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _require_one_format(form: str | None, as_json: bool) -> None:
    """Check that ``--json``, another way to write ``--format json``, is given with no other format."""
    if as_json and form not in (None, "json"):
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected one of --json and --format {form}; got both. Fix: leave out one",
            key="--format",
        )


@verbs.command()
def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="One SELECT statement over the views evaluations, trials, failures and those of the other kinds.",
            metavar="SQL",
        ),
    ],
    results: Root,
    form: Annotated[Literal["table", "csv", "json", "parquet"] | None, _FORM] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Abort the query after this many seconds.", metavar="SECONDS")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Query the results with SQL."""
    _start_no_threads()
    import analysis

    _require_one_format(form, as_json)
    table = analysis.query(results, sql, timeout=timeout)
    if form != "parquet":
        sys.stdout.write(table_text(table, "json" if as_json else form or "table"))
    elif sys.stdout.isatty():
        raise InvalidRequest(
            Code.WRONG_VALUE,
            "Parquet output cannot be printed to a terminal. Fix: redirect it to a file: ... --format parquet > FILE",
            key="--format",
        )
    else:
        sys.stdout.buffer.write(analysis.output.formats.parquet(table))


@verbs.command()
def deltas(
    results: Root,
    baseline: Annotated[
        str | None, typer.Option(help="Baseline source; by default the baselines of the study's contrasts.")
    ] = None,
    study: Annotated[str | None, typer.Option(help="Only cells and contrasts of this study.", metavar="NAME")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be repeated.", metavar="NAME")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this dataset; may be repeated.", metavar="NAME")
    ] = None,
    blocks: Annotated[
        list[int] | None,
        typer.Option(help="Only this number of fine-tuned blocks (-1: all); may be repeated.", metavar="N"),
    ] = None,
    epoch: Annotated[
        str | None,
        typer.Option(
            help="A number, last or all; by default the last epoch and the epochs of declared contrasts.",
            metavar="EPOCH",
        ),
    ] = None,
    equivalences: Annotated[
        bool,
        typer.Option(
            "--equivalences",
            help="Only the answers to declared equivalences, one row per cell, instead of deltas; with --study only.",
        ),
    ] = False,
    form: Annotated[Literal["table", "csv", "json"] | None, _FORM] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print accuracy deltas with confidence intervals.

    Holm's correction covers all cells of the contrasts that a study
    declares, regardless of filters. Without contrasts, and for imported
    trials, it covers the cells that are selected. The table is followed
    by the answers to all equivalences that studies declare.
    """
    _start_no_threads()
    import analysis

    _require_one_format(form, as_json)
    chosen = "json" if as_json else form or "table"
    if equivalences:
        others = {"baseline": baseline, "source": source, "dataset": dataset, "blocks": blocks, "epoch": epoch}
        if given := [f"--{name}" for name, value in others.items() if value]:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"expected --equivalences with no selection but --study, since every cell of an equivalence counts; "
                f"got {', '.join(given)}. Fix: leave it out",
                key=given[0],
            )
        sys.stdout.write(table_text(analysis.equivalences(results, study), chosen))
        return
    table = analysis.deltas(
        results,
        baseline,
        study,
        epoch=epoch,
        source=source or None,
        dataset=dataset or None,
        blocks=blocks or None,
    )
    sys.stdout.write(table_text(table, chosen))
    if chosen == "table" and (declared := analysis.equivalences(results, study)).num_rows:
        sys.stdout.write("\n" + table_text(declared, chosen))


@verbs.command()
def report(
    results: Root,
    folder: Annotated[Path | None, typer.Option("--out", parser=path, help=_REPORT_PLACE)] = None,
    compare_paper: Annotated[
        bool,
        typer.Option(
            "--compare-paper", help="Compare means with the paper's, and curves with those of imported trials."
        ),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a report: figures, tables and an HTML page."""
    _start_no_threads()
    import analysis

    page = analysis.report(results, out=folder, compare_paper=compare_paper)
    if as_json:
        print_json({"report": str(page)})
    else:
        notes.print(f"Report: {page}")


@verbs.command("import-trials")
def import_trials(
    file: Annotated[
        Path,
        typer.Argument(parser=path, help="CSV file in tidy format or in the format published by the paper's authors."),
    ],
    results: Root,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Import trials that ran elsewhere into a results root, marked as imported."""
    import analysis
    from analysis.words import counted

    imported = analysis.import_trials(file, results)
    notes.print(
        f"{counted(imported.trials, 'trial')} ({counted(imported.rows, 'row')}): {imported.new} new, "
        f"{imported.already_there} already present, {imported.conflicts} in conflict with existing results"
    )
    if imported.conflicts:
        tell_failed(
            f"conflict: {counted(imported.conflicts, 'trial')} with other numbers than the root has from another "
            "import; kept under conflicts/, see deltasweep verify"
        )
    if as_json:
        print_json(imported._asdict())
    raise typer.Exit(ExitCode.SOME_FAILED if imported.conflicts else ExitCode.ALL_DONE)
