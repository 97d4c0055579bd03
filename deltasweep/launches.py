"""Running the pending trials of a study."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deltasweep import html
from deltasweep.roots import Root, root_of
from deltasweep.tables import Table
from deltasweep.trials import bar, in_state, trials_table
from jobs.system.given import number, several
from jobs.system.printable import one_line
from orchestrator.launching.request import HANG_AFTER_MINUTES, LaunchRequest
from orchestrator.planning.trial_states import TrialState

if TYPE_CHECKING:
    from deltasweep.models import StudyOrName
    from jobs.study.model import Study as StudyModel
    from orchestrator.launching.launch import EndStatus, Summary

_NAMED = 10
"""Number of failed trials that are named."""


class Launched:
    """How a launch ended, in trials of its study."""

    def __init__(self, study: "StudyModel", summary: "Summary", results: str) -> None:
        self._study = study
        self._summary = summary
        self._results = results

    @property
    def study(self) -> str:
        """The study's name."""
        return self._study.name

    @property
    def results(self) -> str:
        """The results root."""
        return self._results

    @property
    def status(self) -> "EndStatus":
        """``done``; ``failed``: some trials did; ``stopped``: before all were finished, see ``stop_reason``."""
        return self._summary.status

    @property
    def planned(self) -> int:
        """The number of the study's trials."""
        return self._summary.planned

    @property
    def done(self) -> int:
        """The number of trials with a result, from this launch or before."""
        return self._summary.done

    @property
    def failed(self) -> int:
        """The number of trials that failed in this launch, or were quarantined before it."""
        return len(self._summary.failed)

    @property
    def left(self) -> int:
        """The number of trials that are neither done nor failed; another launch runs them."""
        return self._summary.left

    @property
    def stop_reason(self) -> str | None:
        """Why the launch stopped before all trials were finished, if it did."""
        return self._summary.stop_reason

    def ids(self, state: TrialState) -> list[str]:
        """Return the ids of the trials in a state, in the order of the study: done, failed or pending.

        Raises:
            InvalidRequest: for an unknown state.
        """
        return in_state(self._summary.states, state)

    @property
    def trials(self) -> Table:
        """One row per trial of the study: id, state, why it failed, and what it is."""
        from jobs.study.expand import expand

        return trials_table(expand(self._study), self._summary.states, self._summary.failed)

    def _lines(self) -> list[str]:
        summary = self._summary
        named = [*summary.failed.items()][:_NAMED]
        return [
            f"{self.study}: {summary.done:,} of {summary.planned:,} trials are done, {self.failed:,} failed, "
            f"{self.left:,} left",
            *([f"Stopped: {summary.stop_reason.rstrip('.')}."] if summary.stop_reason else []),
            *(f"failed: {trial}: {one_line(reason)}" for trial, reason in named),
            *([f"and {self.failed - len(named):,} more failed (.trials)"] if self.failed > len(named) else []),
        ]

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        return html.block(bar(self._summary.states), *map(html.paragraph, self._lines()))


def launch(
    study: "StudyOrName",
    results: Root = None,
    *,
    address: str | None = None,
    max_trials: int | None = None,
    max_cost: float | None = None,
    max_hours: float | None = None,
    hang_after: float = HANG_AFTER_MINUTES,
    gpu: str | None = None,
    price: float | None = None,
    retry_quarantined: bool = False,
    accept_numerics: Sequence[str] = (),
    ui: bool = False,
    quiet: bool = False,
) -> Launched:
    """Run the pending trials of a study on Ray, and return when none is left, as ``deltasweep launch`` does.

    Trials that are done are never run again: the same call continues after an interruption, and retries what failed.
    It may be called from any thread. In the main thread, Ctrl-C or the interruption of a notebook's cell lets running
    trials save and exit; KeyboardInterrupt follows. A second one ends the launch at once. A launch in another thread
    is not interrupted; limit it with ``max_hours``.

    Args:
        study: a study, the name of a packaged one, or the path of a study file.
        results: a results root, new or existing; by default ``$DELTASWEEP_RESULTS``.
        address: of a Ray cluster; by default Ray starts on this machine.
        max_trials: run at most this many of the pending trials.
        max_cost: stop before the cluster has cost more than this during the launch, in US dollars.
        max_hours: stop, with all progress saved, before this many hours have passed.
        hang_after: kill an actor that makes no progress for this many minutes.
        gpu: GPU type of the cluster, for ``max_cost``; by default the cluster is asked.
        price: US dollars per GPU-hour, for ``max_cost``; by default a list price.
        retry_quarantined: run quarantined trials, too.
        accept_numerics: ``[KIND:]N``: count results of older numerics versions as done, from N on.
        ui: serve the live page to this machine, until 15 minutes after the last look; its address is printed.
        quiet: print no progress.

    Returns:
        How it ended. Trials that failed and a launch that stopped itself are no exceptions: see ``status``.

    Raises:
        InvalidRequest, MissingData, DamagedFile, ResultsConflict: before anything is started or written. What only the
            cluster shows (no machine is large enough, or no price of its GPUs is known) is refused before any trial is
            started; by then the root has the records of the study and of the launch, which has ended.
        StorageFailure: if the results root or this machine's disk fails.
        KeyboardInterrupt: after an interruption.
    """
    from deltasweep.models import model_of
    from jobs.results import open_store
    from orchestrator.process.notebook import console

    request = LaunchRequest(
        address,
        number(max_trials, "--max-trials"),
        retry_quarantined,
        number(max_cost, "--max-cost"),
        number(max_hours, "--max-hours"),
        number(hang_after, "--hang-after"),
        gpu,
        number(price, "--price"),
        several(accept_numerics),
        ui=ui,
    )
    options, model, root = request.options(), model_of(study), root_of(results)
    store, screen = open_store(root), console(quiet)
    from orchestrator.launching.launch import launch as run  # loads torch and Ray
    from orchestrator.live.beside import page_of_launch

    with page_of_launch(store.uri, request, console(False).print, quiet=quiet) as live_page:
        launched = Launched(model, run(model, store, screen, options._replace(live_page=live_page)), root)
    if launched.status == "interrupted":
        raise KeyboardInterrupt(f"{launched._lines()[0]}; the same call continues")
    return launched
