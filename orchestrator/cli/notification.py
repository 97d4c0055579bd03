"""``--notify CMD``: a command of the user, run when a launch has ended, in whichever way."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from jobs.system.printable import one_line
from orchestrator.cli import exit_codes
from orchestrator.cli.ended import Ended
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.output import err

SECONDS = 60.0
"""Time after which the command is killed."""

Notify = Annotated[
    str | None,
    typer.Option(
        metavar="CMD",
        help="When the launch has ended in whichever way, run this command in a shell, with the facts in environment "
        "variables and as JSON on its standard input (see docs/how-to/run-and-resume.md).",
    ),
]


@dataclass
class Notice:
    """What the command is told."""

    study: str
    """The study's name, once it is loaded; before, as it was asked for."""
    ended: Ended | None = None


@contextmanager
def notifying(command: str | None, study: str, results: str) -> Iterator[Notice]:
    """Run the command when the block ends: with the ``Ended`` that the block gave, or with what ended it otherwise.

    The command changes no exit code. Nothing of a study or a message is ever part of the shell's text.
    """
    notice = Notice(study)
    facts: dict[str, Any] = {}
    try:
        yield notice
        facts = {} if notice.ended is None else notice.ended.plain()
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        facts = _ended_by("interrupted", ExitCode.INTERRUPTED, notice.study, results)
        raise
    except Exception as error:
        expected = exit_codes.of_any(error)
        facts = _ended_by("error", exit_codes.exit_code_of(expected.code), notice.study, results) | expected.plain()
        raise expected from error
    finally:
        if command is not None and facts:
            _run(command, facts)


def _ended_by(status: str, code: ExitCode, study: str, results: str) -> dict[str, Any]:
    unknown = dict.fromkeys(("planned", "done", "left", "stop_reason", "resume"))
    return {"status": status, "exit_code": int(code), "study": study, "results": results, **unknown, "failed": []}


def variables(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables of the command; what is unknown is empty."""
    message = facts["error"]["message"] if "error" in facts else facts["stop_reason"]
    values = {
        "DELTASWEEP_STATUS": facts["status"],
        "DELTASWEEP_EXIT_CODE": facts["exit_code"],
        "DELTASWEEP_STUDY": facts["study"],
        "DELTASWEEP_RESULTS": facts["results"],
        "DELTASWEEP_PLANNED": facts["planned"],
        "DELTASWEEP_DONE": facts["done"],
        "DELTASWEEP_LEFT": facts["left"],
        "DELTASWEEP_FAILED": len(facts["failed"]),
        "DELTASWEEP_MESSAGE": one_line(message or ""),
    }
    return {name: "" if value is None else str(value).replace("\0", "") for name, value in values.items()}


def _run(command: str, facts: Mapping[str, Any]) -> None:
    """Run the command and tell if it fails. Its output goes to standard error."""
    problem = None
    try:
        done = subprocess.run(
            command,
            shell=True,  # the user wrote it for a shell
            input=json.dumps(facts).encode(),
            stdout=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
            env=os.environ | variables(facts),
            timeout=SECONDS,
            check=False,
        )
        problem = f"exited with {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired:
        problem = f"was still running after {SECONDS:g} s and was killed"
    except OSError as error:
        problem = f"could not be started: {error.strerror}"
    if problem:
        err.print(f"deltasweep: warning: the command of --notify {problem}")


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return False
    return True
