"""A launch: run what is pending of a study, round by round, see it through, say what became of it."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

from rich.console import Console

from jobs import registry
from jobs.checks import require_all_possible
from jobs.data.datasets import load_dataset
from jobs.errors import DeltaSweepError, RootGone
from jobs.expansion import expand
from jobs.recipes import crops_whole
from jobs.results import (
    FailureKind,
    Launch,
    Store,
    begin,
    done,
    quarantined,
    read_failures,
    record_study,
    require_layout,
    require_pin,
    with_weights,
    write_launch,
)
from jobs.specs import AnySpec, FinetuneSpec, Numerics, PretrainSpec
from jobs.study import Study
from jobs.trial import Pin
from jobs.weights import source_weights
from orchestrator import tuning
from orchestrator.budget import Budget, TimeLimit
from orchestrator.bundling import bundle_of, bundled
from orchestrator.earlier import earlier_versions
from orchestrator.failures import root_failure
from orchestrator.finished import finished, made_by, source_read, unready
from orchestrator.finished import standing as standing_of
from orchestrator.hanging import HANG_AFTER_MINUTES
from orchestrator.heartbeat import Heartbeat, new_launch, others_alive
from orchestrator.names import require_same_names
from orchestrator.older_numerics import NONE_OLDER
from orchestrator.operations import bundle_flops
from orchestrator.outcomes import Outcome, State, Stop, StopCause
from orchestrator.phases import Phase, phases_of, rank
from orchestrator.progress import ProgressView, Tallies
from orchestrator.retries import Retries
from orchestrator.signals import stop_signals_to
from orchestrator.stopping import Listener, raise_flag_for
from orchestrator.versions import versions
from orchestrator.watch import STOP_GRACE_SECONDS, Watch
from orchestrator.work import network_of


class Options(NamedTuple):
    """How to launch: none of it changes a result."""

    address: str | None = None
    """Of a Ray cluster; None starts Ray on this machine and ends it afterwards."""
    max_trials: int | None = None
    """Run at most so many of the pending trials."""
    retry_quarantined: bool = False
    spending: "Spending | None" = None
    accept_numerics: Numerics = NONE_OLDER
    """Results of these numerics, or of later ones, count as done (``older_numerics``)."""
    max_hours: float | None = None
    """That the launch may last, with the minute in which trials save and leave."""
    hang_after_minutes: float = HANG_AFTER_MINUTES
    """An actor that shows no progress for longer is ended, and its trials are tried elsewhere."""


class Spending(NamedTuple):
    """What a launch may cost. US dollars."""

    most: float
    price: float
    """For an hour of one GPU that the cluster has; of one machine, where it has none."""


class Summary(NamedTuple):
    """How a launch ended, in trials of its study."""

    planned: int
    done: int
    failed: dict[str, str]
    """Trial id to reason: failed in this launch, or quarantined before it."""
    stop: Stop | None = None
    """Why it ended before its trials did, if it did."""

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
    """A launch under way: what its parts share."""

    study: Study
    store: Store
    console: Console
    specs: dict[str, AnySpec]
    """All trials of the study, by id."""
    pending: list[str]
    """What this launch is to run, in order."""
    watch: Watch
    tallies: Tallies
    options: Options = Options()


def launch(study: Study, store: Store, console: Console, options: Options | None = None) -> Summary:
    """Run the pending trials of a study: planned minus done minus quarantined.

    It may be called from any thread, and by a process that has joined Ray: it then runs there. In the main thread the
    first SIGINT, SIGTERM or SIGHUP makes running trials save and leave; a signal that is ignored (nohup) stays so.

    Raises:
        InvalidRequest, MissingData, DamagedFile, ResultsConflict: before anything is started or written.
        RootGone: when the root went away meanwhile, or was emptied; trials stopped then, and none is charged.
        StorageFailure: when the root, or this machine's own disk, fails where no trial runs.
        KeyboardInterrupt: at the second signal, or the first while no trial runs.
    """
    options = options or Options()
    record = new_launch(study)
    watch = Watch(store, record.launch, options.hang_after_minutes)
    if options.max_hours is not None:
        watch.limits.append(TimeLimit(options.max_hours, STOP_GRACE_SECONDS).spend)
    require_layout(store)
    with registry.using(study.cards), stop_signals_to(_stopper(watch, console)):
        return _launch(study, store, console, options, record, watch)


def _launch(study: Study, store: Store, console: Console, options: Options, record: Launch, watch: Watch) -> Summary:
    specs = {spec.trial_id: spec for spec in expand(study)}
    require_all_possible(specs.values())
    require_same_names(study, store)
    known = standing_of(store, specs, options.accept_numerics)
    if said := known.about_older(options.accept_numerics):
        console.print(f"{said}.", markup=False)
    for line in (*earlier_versions(store, study, specs).about, *known.about_damaged):
        console.print(line, markup=False)
    standing, torn = known.done, known.damaged.keys()
    blocked = set() if options.retry_quarantined else quarantined(read_failures(store)) & specs.keys() - standing - torn
    pending = [trial for trial in _in_running_order(study, specs) if trial not in standing | blocked | torn][
        : options.max_trials
    ]
    if study.keep_weights and (without := done(store, FinetuneSpec.kind) & standing - with_weights(store)):
        console.print(
            f"{len(without)} trials are done without kept weights: they were run before keep_weights was set."
        )
    tallies = Tallies(planned=len(specs), done_before=len(standing), failed_before=len(blocked) + len(torn))
    launching = Launching(study, store, console, specs, pending, watch, tallies, options)
    to_make = {name for name, trial in made_by(specs.values()).items() if trial not in standing}
    inputs = _inputs(store, [specs[trial] for trial in pending], to_make)
    if pending:
        tuning.require_answer(options.address)
    begin(store)
    for pin in sorted(inputs):
        require_pin(store, *pin)
    record_study(store, study.name, study.digest, study.resolved())
    if not pending:
        write_launch(store, record._replace(ended_at=record.started_at))
        return _summary(launching, blocked, {**known.damaged})
    for other in others_alive(store):
        console.print(
            f"Warning: {other.told} works on this root too; no result is lost or doubled, but some trials may be "
            "run by both.",
            markup=False,
        )

    def failed(error: DeltaSweepError) -> None:
        found = root_failure(store, error)
        if found is not None and (found.lasting or isinstance(error, RootGone)):
            watch.root_failed(found)

    warn = partial(console.print, markup=False)
    with Heartbeat(store, record, lambda: watch.in_flight, warn, failed) as heartbeat:
        watch.root_answers = lambda: heartbeat.beat() is None
        with tuning.connected(options.address):
            if options.spending is not None:
                watch.limits.append(Budget(*options.spending, tuning.billed_units, STOP_GRACE_SECONDS).spend)
            try:
                given_up = _run_rounds(launching)
            finally:
                heartbeat.finish()
    store.require_held()
    store.hold()
    return _summary(launching, blocked, {**known.damaged, **given_up})


def _run_rounds(launching: Launching) -> dict[str, str]:
    """Run phase after phase until nothing is waiting or a stop is asked for; returns what was given up and why."""
    study, watch, console = launching.study, launching.watch, launching.console
    phases = phases_of(study, launching.specs, launching.pending)
    said = dict[str, None]()
    shares = [tuning.share_of(phase.resources, said.setdefault) for phase in phases]
    for line in said:
        console.print(line, markup=False)
    flag = raise_flag_for(watch.launch)
    watch.on_stop = flag.set.remote
    watch.listen = Listener(flag)
    given_up: dict[str, str] = {}
    with _at_work(watch), ProgressView(launching.tallies, console) as view:
        for phase, share in zip(phases, shares, strict=True):
            if watch.stopping:
                break
            given_up |= unready(launching.store, launching.specs, phase.trials)
            retries = Retries(
                [trial for trial in phase.trials if trial not in given_up],
                partial(tuning.largest_multiple, share),
                lambda trial: bundle_of(study, launching.specs[trial]),
            )
            watch.on_change = partial(_show, launching, given_up, retries.given_up, view)
            _run_phase(launching, phase, share, retries)
            given_up |= retries.given_up
        _show(launching, given_up, {}, view)
    return given_up


def _run_phase(launching: Launching, phase: Phase, share: tuning.Share, retries: Retries) -> None:
    watch = launching.watch
    job = {
        "root": launching.store.uri,
        "launch": watch.launch,
        "versions": versions(),
        "cards": launching.study.cards.model_dump(mode="json"),
        "keeping": phase.keeping._asdict(),
    }
    while not watch.stopping and (this := retries.next_round()):
        watch.begin_round()
        bundles = [[launching.specs[trial] for trial in bundle] for bundle in this.bundles]
        tuning.run_round(bundles, job, {name: amount * this.share for name, amount in share.items()}, watch)
        outcomes = watch.round_outcomes if watch.stopping else _with_lost(this.trials, watch.round_outcomes)
        _print_notes(outcomes, launching.console)
        if any(outcome.state is not State.DONE for outcome in outcomes.values()):
            # an actor may commit some trials of a bundle and die before it answers
            standing = outcomes.keys() & finished(launching.store, launching.specs)
            outcomes |= dict.fromkeys(standing, Outcome(State.DONE))
        retries.record(outcomes, quarantined(read_failures(launching.store)))


def _in_running_order(study: Study, specs: dict[str, AnySpec]) -> list[str]:
    """Sources first, examinations last; longest first, so that no long trial or bundle starts last; then by dataset,
    source or network, and seed. The trials of a bundle follow each other.
    """
    work = {spec.trial_id: bundle_flops(bundle).total for bundle in bundled(study, specs.values()) for spec in bundle}

    def place(trial: str) -> tuple[object, ...]:
        spec = specs[trial]
        what = spec.architecture if isinstance(spec, PretrainSpec) else spec.source
        return rank(spec), -work[trial], spec.dataset, what, spec.seed

    return sorted(specs, key=place)


def _inputs(store: Store, specs: list[AnySpec], to_make: set[str]) -> set[Pin]:
    """Load every source and dataset once here: a missing file is one message now, not a failure a trial.

    Args:
        to_make: sources that the study itself is yet to make; they are left out.
    """
    read = {source_read(spec) for spec in specs} - {None, *to_make}
    found = {Pin("sources", name, source_weights(store, name).sha256) for name in read if name is not None}
    for architecture, dataset, whole in {(network_of(spec)[0], spec.dataset, crops_whole(spec)) for spec in specs}:
        image_size = registry.architecture(architecture).image_size
        found.add(Pin("datasets", dataset, load_dataset(dataset, image_size, whole_training=whole).sha256))
    return found


def _with_lost(trials: list[str], outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes of a round, a trial without any counted as lost, so that no trial waits for ever."""
    lost = Outcome(State.FAILED, (), FailureKind.INFRASTRUCTURE, "Ray Tune ended without an answer about it")
    return dict.fromkeys(trials, lost) | outcomes


def _print_notes(outcomes: dict[str, Outcome], console: Console) -> None:
    for outcome in outcomes.values():
        for note in outcome.notes:
            console.print(f"Note: {note}", markup=False)


def _stopper(watch: Watch, console: Console) -> Callable[[signal.Signals], None]:
    """What signals do: the first asks running trials to leave; the second, or one while none runs, ends the launch."""

    def handle(number: signal.Signals) -> None:
        if watch.stopping or not watch.at_work:
            raise KeyboardInterrupt
        watch.request_stop(StopCause.INTERRUPTED, number.name)
        with suppress(RuntimeError):  # the signal came while something was printed
            console.print("\nStopping: running trials save and leave at their next batch. Again to leave at once.")

    return handle


@contextmanager
def _at_work(watch: Watch) -> Iterator[None]:
    """Trials run, and can be asked to leave."""
    watch.at_work = True
    try:
        yield
    finally:
        watch.at_work = False


def _show(launching: Launching, before: Mapping[str, str], given_up: Mapping[str, str], view: ProgressView) -> None:
    tallies, watch = launching.tallies, launching.watch
    tallies.done = watch.done
    tallies.failed = len(before) + len(given_up)
    tallies.running = len(watch.in_flight)
    view.update()


def _summary(launching: Launching, blocked: set[str], given_up: dict[str, str]) -> Summary:
    """What the results root says at the end; only reasons come from the launch."""
    standing = finished(launching.store, launching.specs, launching.options.accept_numerics)
    failed = dict.fromkeys(blocked, "quarantined before this launch: --retry-quarantined runs it again") | given_up
    return Summary(
        planned=len(launching.specs),
        done=len(standing),
        failed={trial: why for trial, why in failed.items() if trial not in standing},
        stop=launching.watch.stop,
    )
