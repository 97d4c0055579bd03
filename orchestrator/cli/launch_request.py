"""Submission of ``launch`` and ``resume`` to a cluster's head node."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import typer

from jobs.errors import Code, InvalidRequest
from jobs.system.commands import command
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.options import as_arguments
from orchestrator.cli.output import notes, print_json
from orchestrator.launching.request import HANG_AFTER_MINUTES, LaunchRequest


def as_words(request: LaunchRequest) -> list[str]:
    """Return the options of a launch as command-line arguments, without those that are about this machine."""
    return (["--retry-quarantined"] if request.retry_quarantined else []) + as_arguments(
        max_trials=request.max_trials,
        max_cost=request.max_cost,
        max_hours=request.max_hours,
        hang_after=request.hang_after if request.hang_after != HANG_AFTER_MINUTES else None,
        gpu=request.gpu,
        price=request.price,
        accept_numerics=request.accept_numerics,
    )


def resume_command(request: LaunchRequest, results: str, study: str) -> str:
    """Return the command that continues a launch: on the same cluster, with the same limits except of trials.

    The output of a submitted launch is printed where it was submitted, so its command submits again.
    """
    from orchestrator.ray_tune.submit import SUBMITTED_VARIABLE

    submitted = os.environ.get(SUBMITTED_VARIABLE)
    words = [
        *(["--submit"] if submitted else []),
        *as_arguments(results=results, study=study, address=submitted or request.address),
        *as_words(request._replace(max_trials=None)),
        *as_arguments(builder=request.builders),
    ]
    return command("resume", *words)


def submit_verb(
    verb: str,
    arguments: list[str],
    *,
    address: str | None,
    results: str,
    study: str | None,
    study_file: bytes | None = None,
    builders: Sequence[Path] = (),
    ui: bool | None = None,
    as_json: bool = False,
) -> NoReturn:
    """Run a verb on a cluster's head node, print its output and exit with its exit code.

    Args:
        study: Study name for the printed commands; None for the last study of the root.
        study_file: Contents of the study file to upload.
        builders: Builder files to upload.
        ui: Whether the live page was asked for, which only the machine of the launch would serve.
    """
    from jobs.catalog.builder_files import read_builders
    from orchestrator.launching.options import page_command
    from orchestrator.ray_tune.submit import ListeningEnd, listen, require_submittable, submit

    if ui:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            "expected no --ui with --submit, which would serve the live page to the head node only. Fix: serve it "
            f"here: {page_command(results)}",
            key="--ui",
        )
    texts = read_builders(builders)
    where = require_submittable(address, results)
    uploaded = as_arguments(builder=[path.name for path in builders])
    submission = submit(where, verb, [*arguments, *uploaded, "--results", results], study_file, texts)
    watch = command("status", "--watch", *as_arguments(results=results, study=study))
    again = as_arguments(address=address, results=results, study=study, builder=list(builders))
    come_back = (
        f"Status: {watch}\n"
        f"Live page: {page_command(results)}\n"
        f"Output: {submission.logs_command()}\n"
        f"Stop: {submission.stop_command()}\n"
        f"Resume on a new cluster: {command('resume', '--submit', *again)}"
    )
    notes.print(f"Submitted as {submission.job}. Ctrl-C detaches and leaves the job running.\n{come_back}\n")
    heard = listen(submission, lambda text: notes.print(text, end=""))
    finished = heard.ending is ListeningEnd.FINISHED
    if finished and heard.exit_code is None:
        notes.print(f"The job ended without an exit code: {heard.message}")
    if not finished:
        why = "Detached" if heard.ending is ListeningEnd.DETACHED else f"Connection lost ({heard.message})"
        notes.print(f"\n{why}; job {submission.job} continues to run.\n{come_back}")
    ended = heard.exit_code if heard.exit_code is not None else int(ExitCode.SOME_FAILED)
    unheard = ExitCode.INTERRUPTED if heard.ending is ListeningEnd.DETACHED else ExitCode.TRY_AGAIN
    code = ended if finished else int(unheard)
    if as_json:
        print_json(
            {
                "job": submission.job,
                "address": where,
                "results": results,
                "status": heard.ending.value,
                "exit_code": code,
            }
        )
    raise typer.Exit(code)
