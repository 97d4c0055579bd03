"""Verbs that operate on whole results roots: ``compact``, ``merge``, ``verify``."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.paths import RESULTS_VARIABLE
from jobs.system.printable import one_line
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.options import Json, Quiet, Root
from orchestrator.cli.output import notes, out, print_json, tell_failed

if TYPE_CHECKING:
    from jobs.results import Store

verbs = typer.Typer()


def known_root(results: str) -> "Store":
    """Open a results root, which may be new, and check that this version supports its layout."""
    from jobs.results import open_store, require_layout

    store = open_store(results)
    require_layout(store)
    return store


@verbs.command()
def compact(results: Root, as_json: Json = False, quiet: Quiet = False) -> None:
    """Merge the results of finished trials into an index that is fast to read."""
    from jobs.kind import GRID_KIND, INSTALL_IT, NOT_INSTALLED
    from jobs.results import compact, done, kinds, open_existing, unknown_kinds

    store = open_existing(results)
    made = {kind: compact(store, kind) for kind in kinds() if kind == GRID_KIND or done(store, kind)}
    unknown = unknown_kinds(store)
    if as_json:
        kinds_made = [{"kind": kind, **index._asdict()} for kind, index in made.items()]
        print_json({"kinds": kinds_made, "unknown_kinds": unknown})
        return
    for kind, index in made.items():
        already = "" if index.written else "; it was already up to date"
        notes.print(f"The index covers {index.trials:,} trials of kind {kind} ({index.rows:,} rows){already}.")
    for name, trials in sorted(unknown.items()):
        notes.print(f"{trials:,} results of kind {name!r}, {NOT_INSTALLED}, were left unchanged. {INSTALL_IT}.")


@verbs.command()
def merge(
    roots: Annotated[list[str], typer.Argument(help="Results roots to read; they are not changed.", metavar="ROOT...")],
    results: Annotated[
        str,
        typer.Option(
            "--results",
            help="Results root to write to, new or existing.",
            metavar="ROOT",
            envvar=RESULTS_VARIABLE,
        ),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Merge results roots into one.

    Each trial is stored once. Conflicts and omitted trials are reported.
    """
    from analysis.words import counted
    from jobs.results import merge, open_store

    merged = merge([open_store(root) for root in roots], open_store(results))
    notes.print(f"{counted(merged.trials, 'trial')} added to {results}; {merged.already_there} already present.")
    if merged.other_devices:
        notes.print(
            f"{merged.other_devices} of these have different numbers from another kind of device or version of torch; "
            "the numbers of the first root were kept."
        )
    for trial in merged.examinations_left_out:
        notes.print(f"left out: {trial}: it examined a network whose trial was kept from another root")
    for trial in merged.conflicts:
        tell_failed(f"conflict: {trial}: different numbers from the same kind of device; see deltasweep verify")
    if as_json:
        print_json({"results": results, **merged._asdict()})
    raise typer.Exit(ExitCode.SOME_FAILED if merged.conflicts else ExitCode.ALL_DONE)


@verbs.command()
def verify(results: Root, as_json: Json = False, quiet: Quiet = False) -> None:
    """Read a whole results root and report every problem."""
    from analysis.words import counted
    from jobs.results import Problem, open_existing
    from jobs.verification.verify import verify
    from orchestrator.study.history import planned_trials

    store = open_existing(results)
    findings = verify(store, planned_trials(store))
    harmful = sum(not finding.problem.harmless for finding in findings)
    mixed = sum(finding.problem is Problem.MIXED for finding in findings)
    harmless = len(findings) - harmful
    if as_json:
        listed = [{**finding._asdict(), "harmless": finding.problem.harmless} for finding in findings]
        print_json({"problems": harmful, "notes": harmless, "mixed": mixed, "findings": listed})
    else:
        for finding in findings:
            out.print(one_line(f"{finding.problem}: {finding.advice}"))
        of_several = f" {counted(mixed, 'trial')} ran on several kinds of device or versions of torch." if mixed else ""
        notes.print(f"{counted(harmful, 'problem')}, {counted(harmless, 'note')}.{of_several}")
    raise typer.Exit(ExitCode.SOME_FAILED if harmful else ExitCode.ALL_DONE)
