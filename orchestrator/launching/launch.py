"""A launch: run the pending trials of a study in rounds and sum up the outcome."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache, partial
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from rich.console import Console

from jobs.errors import DeltaSweepError, RootGone
from jobs.results import (
    Launch,
    Store,
    begin,
    quarantined,
    read_failures,
    record_study,
    require_layout,
    require_pin,
    write_launch,
)
from jobs.results.launches import timestamp
from jobs.study.model import Study
from jobs.system.memory import machine_memory
from orchestrator.failures.failure_classification import root_failure
from orchestrator.failures.outcomes import Outcome, State, Stop, StopCause
from orchestrator.failures.versions import versions
from orchestrator.launching.budget import Budget, TimeLimit
from orchestrator.launching.compacting import Compacting
from orchestrator.launching.heartbeat import Heartbeat, new_launch
from orchestrator.launching.launch_state import LEAVING, LaunchState
from orchestrator.launching.options import Options, page_command
from orchestrator.launching.preparation import Preparation, prepare
from orchestrator.launching.prices import about_limit, priced
from orchestrator.launching.progress import ProgressView, Tallies
from orchestrator.launching.retries import LargestShares, Retries
from orchestrator.launching.sharing import from_place, others_sharing, place_among
from orchestrator.planning.bundles import bundle_of
from orchestrator.planning.dependencies import completed, unmet_dependencies
from orchestrator.planning.gpu_table import Device
from orchestrator.planning.processor import without_units
from orchestrator.planning.stages import StageTrials
from orchestrator.planning.trial_states import TrialState
from orchestrator.process.signals import stop_signals_to
from orchestrator.ray_tune import tuner
from orchestrator.ray_tune.gpu_share import cluster_gpus, resolved
from orchestrator.ray_tune.local_ray import scarce_memory
from orchestrator.ray_tune.stop_signal import Listener, raise_flag_for

EndStatus: TypeAlias = Literal["done", "failed", "stopped", "interrupted"]
"""``failed``: some trials did; ``stopped``: before all trials were finished, for a reason of its own."""


class Summary(NamedTuple):
    """The outcome of a launch, in numbers of its study's trials."""

    planned: int
    done: int
    failed: dict[str, str]
    """Reasons by trial id, for trials that failed in this launch or were already quarantined."""
    stop: Stop | None = None
    """Why the launch stopped before all its trials were finished, if it did; or the signal that interrupted it."""
    states: Mapping[str, TrialState] = MappingProxyType({})
    """Each trial's state after the launch, in the order of the study: done, failed or pending."""

    @property
    def status(self) -> EndStatus:
        if self.interrupted:
            return "interrupted"
        if self.stop is not None:
            return "stopped"
        return "failed" if self.failed else "done"

    @property
    def stop_reason(self) -> str | None:
        return self.stop.reason if self.stop else None

    @property
    def interrupted(self) -> bool:
        return self.stop is not None and self.stop.cause is StopCause.INTERRUPTED

    @property
    def left(self) -> int:
        return self.planned - self.done - len(self.failed)


class Launching(NamedTuple):
    """Shared state of a running launch."""

    prepared: Preparation
    store: Store
    console: Console
    options: Options
    state: LaunchState
    tallies: Tallies


def launch(study: Study, store: Store, console: Console, options: Options | None = None) -> Summary:
    """Run the pending trials of a study: those that are not done, damaged or quarantined.

    May be called from any thread. If this process has already joined Ray, the launch runs there. In the main thread,
    the first SIGINT, SIGTERM or SIGHUP makes running trials save and exit; ignored signals (nohup) stay ignored.

    Raises:
        InvalidRequest, MissingData, DamagedFile, ResultsConflict: Before anything is started or written. What only the
            cluster shows (no machine is large enough, or no price of its GPUs is known) is refused before any trial is
            started; by then the root has the records of the study and of the launch, which has ended.
        RootGone: If the root disappeared or was emptied in the meantime. Trials were stopped and none was charged.
        StorageFailure: If the root or this machine's disk fails outside of any trial.
        KeyboardInterrupt: At the second signal, or at the first while no trial runs.
    """
    options = options or Options()
    record = new_launch(study.name, study.digest)
    state = LaunchState(store, record.launch, options.retry_policy)
    if options.max_hours is not None:
        state.limits.append(TimeLimit(options.max_hours, options.retry_policy.stop_grace_seconds).spend)
    require_layout(store)
    with stop_signals_to(_stopper(state, console)):
        prepared = prepare(study, store, console, options)
        state.operations = prepared.operations
        launching = Launching(prepared, store, console, options, state, _tallies(prepared))
        if prepared.stages:
            tuner.require_answer(options.address)
        begin(store)
        for pin in prepared.pins:
            require_pin(store, *pin)
        record_study(store, study.name, study.digest, study.resolved())
        return _run(launching, record)


def _tallies(prepared: Preparation) -> Tallies:
    return Tallies(
        planned=len(prepared.specs),
        done_before=len(prepared.done),
        failed_before=len(prepared.quarantined) + len(prepared.damaged),
        operations=sum(prepared.operations[trial] for stage in prepared.stages for trial in stage.trials),
    )


def _run(launching: Launching, record: Launch) -> Summary:
    """Run the prepared trials while a heartbeat keeps the launch's record in the results root current."""
    store, state = launching.store, launching.state
    warn = partial(launching.console.print, markup=False)
    live_page = launching.options.live_page
    warn(f"Live page: {live_page() if live_page else page_command(store.uri)}")
    if not launching.prepared.stages:
        write_launch(store, record._replace(ended_at=record.started_at))
        return _summary(launching, {})

    def failed(error: DeltaSweepError) -> None:
        failure = root_failure(store, error)
        if failure is not None and (failure.lasting or isinstance(error, RootGone)):
            state.root_failed(failure)

    starts_ray = tuner.starts_here(launching.options.address)
    begun = timestamp("milliseconds")  # not before, since preparations of launches that start together differ in time
    record = record._replace(started_at=begun, heartbeat_at=begun)
    with (
        Heartbeat(store, record, lambda: state.in_flight, warn, failed) as heartbeat,
        Compacting(store, warn, lambda: heartbeat.writes) as compacting,
    ):
        state.root_answers = lambda: heartbeat.beat() is None
        with tuner.connected(launching.options.address):
            devices = cache(cluster_gpus)
            try:
                _limit_spending(launching, devices)
                place = _place(launching, record)
                heartbeat.take(place)
                given_up = _run_stages(launching, devices, place, starts_ray=starts_ray)
            finally:
                heartbeat.finish()
            if state.stop is not None and state.stop.cause in (StopCause.STORAGE, StopCause.INTERRUPTED):
                compacting.cancel()
            compacting.finish()
    store.require_held()
    store.hold()
    return _summary(launching, given_up)


def _limit_spending(launching: Launching, devices: Callable[[], Sequence[Device]]) -> None:
    """Begin to count what the cluster costs if spending is limited, and print the limit and its price."""
    spending, state = launching.options.spending, launching.state
    if spending is not None:
        price = priced(spending, devices)
        launching.console.print(about_limit(spending, price), markup=False)
        grace = state.policy.stop_grace_seconds
        state.limits.append(Budget(spending.most, price.dollars, tuner.billed_units, grace).spend)


def _place(launching: Launching, record: Launch) -> int:
    """Return the launch's place among those that run the same trials (``from_place``), and report those.

    To be called as late as possible, but at least after its own record was written: of two launches that begin at the
    same time, each must find the other.
    """
    others = others_sharing(launching.store, record, _trials(launching.prepared))
    now = datetime.now(UTC)
    for other in others:
        launching.console.print(
            f"Warning: {other.told} runs the same trials ({other.heard(now)}). No result will be lost or duplicated. "
            "Each launch takes them in another order; a trial that both have begun runs twice.",
            markup=False,
        )
    return place_among(record, others)


def _trials(prepared: Preparation) -> set[str]:
    """Return the trials that the launch is to run."""
    return {trial for stage in prepared.stages for trial in stage.trials}


def _run_stages(
    launching: Launching, devices: Callable[[], Sequence[Device]], place: int, *, starts_ray: bool
) -> dict[str, str]:
    """Run all stages until no trial is waiting or a stop is requested. Return the trials given up, with reasons.

    Args:
        devices: Returns the GPUs of the cluster.
        place: That of the launch among those that run the same trials (``from_place``).
        starts_ray: Whether the launch started Ray, on this machine.
    """
    prepared, state, console = launching.prepared, launching.state, launching.console
    notes = dict[str, None]()
    shares = [tuner.share_of(resolved(stage, notes.setdefault, devices), notes.setdefault) for stage in prepared.stages]
    if starts_ray:
        staged = zip(prepared.stages, shares, strict=True)
        on_processor = [
            prepared.specs[trial] for stage, share in staged if "GPU" not in share for trial in stage.trials
        ]
        warnings = [*without_units(on_processor, prepared.catalog), *scarce_memory(machine_memory())]
        notes |= dict.fromkeys(f"Warning: {line}" for line in warnings)
    for note in notes:
        console.print(note, markup=False)
    flag = raise_flag_for(state.launch)
    state.on_stop = flag.set.remote
    state.tell = partial(console.print, markup=False)
    state.listen = Listener(flag, state.policy.flag_patience_seconds)
    largest = LargestShares([partial(tuner.largest_multiple, share) for share in shares])
    state.look = largest.look
    given_up: dict[str, str] = {}
    with _at_work(state), ProgressView(launching.tallies, console) as view:
        for number, (stage, share) in enumerate(zip(prepared.stages, shares, strict=True)):
            if state.stopping:
                break
            given_up |= unmet_dependencies(launching.store, prepared.specs, stage.trials, prepared.catalog)
            order = from_place(stage.trials, place, prepared.operations)
            retries = Retries(
                [trial for trial in order if trial not in given_up],
                state.policy,
                partial(largest.of, number),
                lambda trial: bundle_of(prepared.specs[trial], prepared.bundling),
            )
            state.on_change = partial(_show, launching, given_up, retries.given_up, view)
            _run_stage(launching, stage, share, retries)
            given_up |= retries.given_up
        _show(launching, given_up, {}, view)
    return given_up


def _run_stage(launching: Launching, stage: StageTrials, share: tuner.Share, retries: Retries) -> None:
    """Run the trials of a stage in rounds until each is done or given up, or a stop is requested."""
    prepared, store, state = launching.prepared, launching.store, launching.state
    job = {
        "root": store.uri,
        "launch": state.launch,
        "versions": versions(),
        "cards": prepared.catalog.own.model_dump(mode="json"),
        "builders": dict(prepared.catalog.builders),
        "retention": stage.retention._asdict(),
        "gpu_memory": stage.memory,
    }
    while not state.stopping and (this := retries.next_round()):
        state.begin_round()
        bundles = [[prepared.specs[trial] for trial in bundle] for bundle in this.bundles]
        grown = tuner.multiple_of(share, this.share)
        launching.tallies.share = " and ".join(f"{amount:g} {name}" for name, amount in grown.items())
        of_round = {"gpu_share": grown.get("GPU", 0), "images_on_gpu": not this.after_memory}
        tuner.run_round(bundles, job | of_round, grown, state)
        _print_notes(state.round_outcomes, launching.console)
        finished = {trial for trial, outcome in state.round_outcomes.items() if outcome.state is State.DONE}
        if unfinished := set(this.trials) - finished:
            # an actor may die after it has committed some trials of a bundle, and other launches finish some
            state.committed(unfinished & completed(store, prepared.specs))
        missing = len(this.trials) - len(state.round_outcomes)
        if missing and not state.stopping:
            state.request_stop(StopCause.TUNE, f"Ray Tune ended the round without the outcomes of {missing} trials")
        retries.record(state.round_outcomes, quarantined(read_failures(store), state.policy.quarantine_after))


def _print_notes(outcomes: dict[str, Outcome], console: Console) -> None:
    for outcome in outcomes.values():
        for note in outcome.notes:
            console.print(f"Note: {note}", markup=False)


def _stopper(state: LaunchState, console: Console) -> Callable[[signal.Signals], None]:
    """Return the signal handler. The first signal asks running trials to save and exit, even if the launch is already
    stopping; a second one, or the first if no trial runs, ends the launch immediately.
    """
    received = list[signal.Signals]()

    def handle(number: signal.Signals) -> None:
        if received or not state.at_work:
            raise KeyboardInterrupt
        received.append(number)
        state.request_stop(StopCause.INTERRUPTED, number.name)
        with suppress(RuntimeError):  # the signal arrived during a print
            console.print(f"\nStopping: {LEAVING[0].lower()}{LEAVING[1:]} Repeat to exit at once.")

    return handle


@contextmanager
def _at_work(state: LaunchState) -> Iterator[None]:
    """Mark that trials run and can be asked to stop."""
    state.at_work = True
    try:
        yield
    finally:
        state.at_work = False


def _show(launching: Launching, before: Mapping[str, str], given_up: Mapping[str, str], view: ProgressView) -> None:
    tallies, state = launching.tallies, launching.state
    tallies.done = state.done
    tallies.operations_done = state.operations_done
    tallies.failed = len(before) + len(given_up)
    tallies.names = state.in_flight
    tallies.running = len(tallies.names)
    if tallies.names:
        tallies.last_ran = time.monotonic()
    view.update()


def _summary(launching: Launching, given_up: dict[str, str]) -> Summary:
    """Sum up the launch from the results root; only the reasons come from the launch itself."""
    prepared = launching.prepared
    done = completed(launching.store, prepared.specs, launching.options.accept_numerics)
    failed = dict.fromkeys(prepared.quarantined, "quarantined before this launch; use --retry-quarantined to retry it")
    failed |= {**prepared.damaged, **given_up}
    failed = {trial: why for trial, why in failed.items() if trial not in done}
    states: dict[str, TrialState] = dict.fromkeys(prepared.specs, "pending")
    states |= dict.fromkeys(failed, "failed")
    states |= {trial: "done" for trial in prepared.specs if trial in done}
    stop = launching.state.stop
    if stop is not None and stop.cause is not StopCause.INTERRUPTED and done.issuperset(_trials(prepared)):
        stop = None  # its last trials were finished while it stopped, here or by another launch
    return Summary(len(prepared.specs), len(done), failed, stop, states)
