"""Command-line options of ``launch`` and ``resume``, and submission to a cluster's head node."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import typer

from jobs.errors import Code, InvalidRequest
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.options import HANG_AFTER_MINUTES, as_arguments
from orchestrator.cli.output import notes, print_json
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.planning import gpus
from orchestrator.planning.gpus import DEFAULT_GPU

if TYPE_CHECKING:
    from orchestrator.launching.options import Options, Spending


class LaunchRequest(NamedTuple):
    """The options of ``launch`` and ``resume`` as given on the command line."""

    address: str | None = None
    max_trials: int | None = None
    retry_quarantined: bool = False
    max_cost: float | None = None
    max_hours: float | None = None
    hang_after: float = HANG_AFTER_MINUTES
    gpu: str = DEFAULT_GPU
    price: float | None = None
    accept_numerics: list[str] | None = None
    builders: list[Path] | None = None

    def spending(self) -> "Spending | None":
        """Return the spending limit, or None if there is none.

        Raises:
            InvalidRequest: If the GPU or its price is unknown, or an amount or a price is not above 0.
        """
        from orchestrator.launching.budget import require_amount
        from orchestrator.launching.options import Spending

        offer = gpus.gpu(self.gpu, self.price)
        if self.max_cost is None:
            return None
        require_amount(self.max_cost)
        if offer.highest_price is None:
            raise InvalidRequest(
                Code.MISSING_KEY,
                f"expected --price with --max-cost, because no price of {offer.name} is known. Fix: give --price, in "
                "US dollars per GPU-hour",
                key="--price",
            )
        return Spending(self.max_cost, offer.highest_price)

    def options(self) -> "Options":
        """Return the options for ``launching.launch``. Raises InvalidRequest if an option is invalid."""
        from orchestrator.launching.options import Options
        from orchestrator.planning.older_numerics import accepted_numerics

        return Options(
            address=self.address,
            max_trials=self.max_trials,
            retry_quarantined=self.retry_quarantined,
            spending=self.spending(),
            accept_numerics=accepted_numerics(self.accept_numerics or ()),
            max_hours=self.max_hours,
            retry_policy=RetryPolicy(hang_after_minutes=self.hang_after),
        )

    def arguments(self) -> list[str]:
        """Return the options as command-line arguments for the head node (without ``--address``)."""
        return (["--retry-quarantined"] if self.retry_quarantined else []) + as_arguments(
            max_trials=self.max_trials,
            max_cost=self.max_cost,
            max_hours=self.max_hours,
            hang_after=self.hang_after if self.hang_after != HANG_AFTER_MINUTES else None,
            gpu=self.gpu,
            price=self.price,
            accept_numerics=self.accept_numerics,
            builder=None if self.builders is None else [path.name for path in self.builders],  # uploaded
        )


def submit_verb(
    verb: str,
    arguments: list[str],
    *,
    address: str | None,
    results: str,
    study: str | None,
    study_file: bytes | None = None,
    builders: Sequence[Path] = (),
    as_json: bool = False,
) -> NoReturn:
    """Run a verb on a cluster's head node, print its output and exit with its exit code.

    Args:
        study: Study name for the printed commands; None for the last study of the root.
        study_file: Contents of the study file to upload.
        builders: Builder files to upload.
    """
    from jobs.catalog.builder_files import read_builders
    from orchestrator.ray_tune.submit import ListeningEnd, listen, require_submittable, submit

    texts = read_builders(builders)
    where = require_submittable(address, results)
    submission = submit(where, verb, [*arguments, "--results", results], study_file, texts)
    named = f" --study {study}" if study else ""
    with_builders = "".join(f" --builder {path}" for path in builders)
    come_back = (
        f"Status: deltasweep status --watch --results {results}{named}\n"
        f"Output: {submission.logs_command()}\n"
        f"Stop: {submission.stop_command()}\n"
        f"Resume on a new cluster: deltasweep resume --submit --address {address} --results {results}{named}"
        f"{with_builders}"
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
    code = ended if finished else int(ExitCode.INTERRUPTED)
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
