"""Verbs that operate on whole results roots: ``compact``, ``merge``, ``verify``."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.system.printable import one_line
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.options import Root
from orchestrator.cli.output import out

if TYPE_CHECKING:
    from jobs.results import Store

verbs = typer.Typer()


def known_root(results: str) -> "Store":
    """Open a results root and check that this version supports its layout."""
    from jobs.results import open_store, require_layout

    store = open_store(results)
    require_layout(store)
    return store


@verbs.command()
def compact(results: Root) -> None:
    """Merge the results of finished trials into an index that is fast to read."""
    from jobs.kind import GRID_KIND, INSTALL_IT, NOT_INSTALLED
    from jobs.results import compact, done, kinds, open_store, require_root, unknown_kinds

    store = open_store(results)
    require_root(store)
    for kind in kinds():
        if kind == GRID_KIND or done(store, kind):
            made = compact(store, kind)
            already = "" if made.written else "; it was already up to date"
            out.print(f"The index covers {made.trials:,} trials of kind {kind} ({made.rows:,} rows){already}.")
    for name, trials in sorted(unknown_kinds(store).items()):
        out.print(f"{trials:,} results of kind {name!r}, {NOT_INSTALLED}, were left unchanged. {INSTALL_IT}.")


@verbs.command()
def merge(
    roots: Annotated[list[str], typer.Argument(help="Results roots to read; they are not changed.", metavar="ROOT...")],
    results: Annotated[str, typer.Option("--results", help="Results root to write to, new or existing.")],
) -> None:
    """Merge results roots into one.

    Each trial is stored once. Conflicts and omitted trials are reported.
    """
    from analysis.words import counted
    from jobs.results import merge, open_store

    merged = merge([open_store(root) for root in roots], open_store(results))
    out.print(f"{counted(merged.trials, 'trial')} added to {results}; {merged.already_there} already present.")
    if merged.other_devices:
        out.print(
            f"{merged.other_devices} of these have different numbers from another kind of device or version of torch; "
            "the numbers of the first root were kept."
        )
    for trial in merged.examinations_left_out:
        out.print(f"left out: {trial}: it examined a network whose trial was kept from another root")
    for trial in merged.conflicts:
        out.print(f"conflict: {trial}: different numbers from the same kind of device; see deltasweep verify")
    raise typer.Exit(ExitCode.SOME_FAILED if merged.conflicts else ExitCode.ALL_DONE)


@verbs.command()
def verify(results: Root) -> None:
    """Read a whole results root and report every problem."""
    from analysis.words import counted
    from jobs.results import Problem, open_store, require_root
    from jobs.verification.verify import verify
    from orchestrator.study.history import planned_trials

    store = open_store(results)
    require_root(store)
    findings = verify(store, planned_trials(store))
    for finding in findings:
        out.print(one_line(f"{finding.problem}: {finding.advice}"))
    harmful = sum(not finding.problem.harmless for finding in findings)
    mixed = sum(finding.problem is Problem.MIXED for finding in findings)
    of_several = f" {counted(mixed, 'trial')} ran on several kinds of device or versions of torch." if mixed else ""
    notes = len(findings) - harmful
    out.print(f"{counted(harmful, 'problem')}, {counted(notes, 'note')}.{of_several}")
    raise typer.Exit(ExitCode.SOME_FAILED if harmful else ExitCode.ALL_DONE)
