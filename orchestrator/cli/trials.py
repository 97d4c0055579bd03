"""Verbs for the trials of a study: ``status``, ``logs``, ``run``, ``trials list``."""

from typing import Annotated

import typer

from jobs.errors import Code, InvalidRequest
from jobs.paths import RESULTS_VARIABLE
from orchestrator.cli.options import AcceptNumerics, Builders, Json, Quiet, Root, StudyName, StudyOfRoot
from orchestrator.cli.output import notes, out, print_json
from orchestrator.cli.roots import known_root
from orchestrator.planning.trial_states import TrialState

verbs = typer.Typer()
trials = typer.Typer(help="List the trials of studies.", no_args_is_help=True)


@verbs.command()
def status(
    results: Root,
    study: StudyOfRoot = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every few seconds until interrupted.")] = False,
    accept_numerics: AcceptNumerics = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a study's progress: each trial is done, running, pending, failed, quarantined or damaged."""
    from jobs.results import open_existing
    from orchestrator.planning.older_numerics import accepted_numerics
    from orchestrator.planning.status import describe, status_of, watch_status
    from orchestrator.study.history import recorded_study

    _require_one(watch, as_json, "--watch")
    accept = accepted_numerics(accept_numerics or ())
    store = open_existing(results)
    recorded = recorded_study(store, study)
    if watch:
        watch_status(store, recorded, out, accept)
        return
    now = status_of(store, recorded, accept=accept)
    if as_json:
        print_json(now.plain())
    else:
        out.print(describe(now))


@verbs.command()
def logs(
    trial: Annotated[
        str,
        typer.Argument(
            help="A trial id, its last 16 characters, or what progress calls the trial, if no other has that name.",
            metavar="TRIAL",
        ),
    ],
    results: Root,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print what a running trial prints until it ends or is interrupted.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the logs of a trial: of its failed attempts, and of the one that finished or is running."""
    from jobs.results import open_existing
    from orchestrator.planning import trial_logs

    _require_one(follow, as_json, "--follow")
    store = open_existing(results)
    if follow:
        trial_logs.follow(store, trial, lambda text: out.print(text, end=""))
        return
    attempts = trial_logs.attempts_of(store, trial)
    if as_json:
        print_json([attempt._asdict() for attempt in attempts])
    else:
        out.print("\n".join(attempt.text() for attempt in attempts), end="")


def _require_one(repeats: bool, as_json: bool, option: str) -> None:
    if repeats and as_json:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected {option} without --json, which prints one value; got both. Fix: leave out one",
            key=option,
        )


@verbs.command()
def run(
    study: StudyName,
    trial: Annotated[str, typer.Option("--trial", help="A trial id of the study, or its last 16 characters.")],
    results: Root,
    builder: Builders = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run one trial in this process, without Ray, for debugging."""
    from jobs.results import open_store
    from orchestrator.launching.local import run_locally
    from orchestrator.study.load import load_study

    ended = run_locally(load_study(study, builder), trial, open_store(results), notes)
    if as_json:
        print_json(ended._asdict())


@trials.command("list")
def list_trials(
    study: StudyName,
    results: Annotated[
        str | None,
        typer.Option(help="Results root, for the states of the trials.", metavar="ROOT", envvar=RESULTS_VARIABLE),
    ] = None,
    state: Annotated[TrialState | None, typer.Option(help="Only trials in this state in the results root.")] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print only the ids, one a line.")] = False,
    accept_numerics: AcceptNumerics = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List a study's trials in its order: id and, with a results root, state.

    Ids keep their order while the study file does not change, for job arrays and scripts.
    """
    from orchestrator.planning.older_numerics import accepted_numerics
    from orchestrator.planning.status import status_of
    from orchestrator.study.load import load_study

    if state and results is None:
        raise InvalidRequest(
            Code.MISSING_KEY,
            "expected --results ROOT or $DELTASWEEP_RESULTS with --state; got neither. Fix: name the results root",
            key="--results",
        )
    accept = accepted_numerics(accept_numerics or ())
    loaded = load_study(study)
    if results is None:
        from jobs.study.expand import expand

        specs, states = {spec.trial_id: spec for spec in expand(loaded)}, dict[str, TrialState]()
    else:
        from jobs.results import open_existing

        store = open_existing(results) if state else known_root(results)  # without a state, the root may be a new one
        now = status_of(store, loaded, thorough=False, accept=accept)
        specs, states = dict(now.specs), now.states()
    chosen = {trial: states.get(trial) for trial in specs if state in (None, states.get(trial))}
    if as_json:
        print_json(
            [
                {"trial": trial, "state": known, "kind": specs[trial].kind, "choices": specs[trial].choices}
                for trial, known in chosen.items()
            ]
        )
    elif chosen:
        lines = (trial if ids or known is None else f"{trial} {known}" for trial, known in chosen.items())
        out.print("\n".join(lines))
