"""How a launch ended, in the words of the command line: its exit code, its lines, its JSON, and what CMD is told."""

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.system.commands import command
from jobs.system.printable import one_line
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.output import notes, tell_failed

if TYPE_CHECKING:
    from orchestrator.launching.launch import EndStatus, Summary


class Ended(NamedTuple):
    """The end of a launch of one study."""

    study: str
    results: str
    to_resume: str
    """The command that continues it, with the options of this launch."""
    summary: "Summary | None"
    """None: interrupted before the launch could count its trials."""

    @property
    def exit_code(self) -> ExitCode:
        from orchestrator.failures.outcomes import StopCause

        summary = self.summary
        if summary is None or summary.interrupted:
            return ExitCode.INTERRUPTED
        if summary.stop is not None and summary.stop.cause in (StopCause.STORAGE, StopCause.MACHINE, StopCause.TUNE):
            return ExitCode.TRY_AGAIN
        return ExitCode.SOME_FAILED if summary.failed or summary.stop_reason else ExitCode.ALL_DONE

    @property
    def is_over(self) -> bool:
        """Whether later launches must not start: this one was interrupted, or the root, a machine or Ray failed."""
        return self.exit_code in (ExitCode.INTERRUPTED, ExitCode.TRY_AGAIN)

    @property
    def status(self) -> "EndStatus":
        return "interrupted" if self.summary is None else self.summary.status

    def plain(self) -> dict[str, Any]:
        """Return the end as in ``launch --json``."""
        summary = self.summary
        failed = {} if summary is None else summary.failed
        return {
            "status": self.status,
            "exit_code": int(self.exit_code),
            "study": self.study,
            "results": self.results,
            "planned": None if summary is None else summary.planned,
            "done": None if summary is None else summary.done,
            "left": None if summary is None else summary.left,
            "failed": [{"trial": trial, "reason": one_line(reason)} for trial, reason in failed.items()],
            "stop_reason": None if summary is None else summary.stop_reason,
            "resume": self.next_command,
        }

    @property
    def next_command(self) -> str | None:
        """The command that continues the study, or retries the trials that failed; None if nothing is left."""
        if self.summary is None or self.summary.left:
            return self.to_resume
        if not self.summary.failed:
            return None
        retries = "--retry-quarantined"
        return self.to_resume if retries in shlex.split(self.to_resume) else f"{self.to_resume} {retries}"

    def tell_next(self) -> None:
        """Print how to look at the results, if all trials are done."""
        if self.exit_code is ExitCode.ALL_DONE:
            notes.print(f"Deltas, figures and tables: {command('report', '--results', self.results)}")

    def tell(self) -> None:
        """Print the end, and the command that continues it."""
        summary = self.summary
        if summary is None:
            notes.print(f"\nInterrupted; committed results are kept. To resume: {self.to_resume}")
            return
        notes.print(f"{summary.done} of {summary.planned} trials are done.")
        for trial, reason in summary.failed.items():
            tell_failed(one_line(f"failed: {trial}: {reason}"))
        if summary.stop_reason:
            tell_failed(one_line(f"Stopped: {summary.stop_reason.rstrip('.')}."))
        if summary.left:
            notes.print(f"To resume: {self.next_command}")
        elif summary.failed:
            notes.print(f"To retry after fixing the cause: {self.next_command}")
