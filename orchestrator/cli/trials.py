"""Verbs for the trials of a study: ``status``, ``logs``, ``run``."""

from typing import Annotated

import typer

from orchestrator.cli.options import AcceptNumerics, Builders, Json, Root, StudyName, StudyOfRoot
from orchestrator.cli.output import out, print_json
from orchestrator.cli.roots import known_root

verbs = typer.Typer()


@verbs.command()
def status(
    results: Root,
    study: StudyOfRoot = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every few seconds until interrupted.")] = False,
    accept_numerics: AcceptNumerics = None,
    as_json: Json = False,
) -> None:
    """Show a study's progress: each trial is done, running, pending, failed, quarantined or damaged."""
    from orchestrator.planning.older_numerics import accepted_numerics
    from orchestrator.planning.status import describe, status_of, watch_status
    from orchestrator.study.history import recorded_study

    accept = accepted_numerics(accept_numerics or ())
    store = known_root(results)
    recorded = recorded_study(store, study)
    if watch:
        watch_status(store, recorded, out, accept)
        return
    now = status_of(store, recorded, accept=accept)
    if as_json:
        print_json(now.counts())
    else:
        out.print(describe(now))


@verbs.command()
def logs(
    trial: Annotated[str, typer.Argument(help="A trial id, or its last 16 characters.", metavar="TRIAL")], results: Root
) -> None:
    """Print the logs of a trial's failed attempts."""
    from orchestrator.planning.status import failed_attempts

    for text in failed_attempts(known_root(results), trial):
        out.print(text)


@verbs.command()
def run(
    study: StudyName,
    trial: Annotated[str, typer.Option("--trial", help="A trial id of the study, or its last 16 characters.")],
    results: Root,
    builder: Builders = None,
) -> None:
    """Run one trial in this process, without Ray, for debugging."""
    from jobs.results import open_store
    from orchestrator.launching.local import run_locally
    from orchestrator.study.load import load_study

    run_locally(load_study(study, builder), trial, open_store(results), out)
