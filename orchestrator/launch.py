"""A launch: run what is pending of a study, see it through, say what became of it."""

import getpass
import json
import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import NamedTuple

import ray
from rich.console import Console

from jobs import registry
from jobs.data.datasets import load_dataset
from jobs.provenance import code_version, packages
from jobs.results import Store, done, record_study, require_writable
from jobs.results.layout import launch_key
from jobs.specs import FinetuneSpec
from jobs.weights import load_source
from orchestrator import tuning
from orchestrator.expansion import expand
from orchestrator.outcomes import Outcome
from orchestrator.plan import trial_flops
from orchestrator.progress import ProgressView, Tallies
from orchestrator.study import Study


class Summary(NamedTuple):
    """How a launch ended, in trials of its study."""

    planned: int
    done: int
    failed: dict[str, str]
    """Trial id to reason."""
    interrupted: bool

    @property
    def left(self) -> int:
        return self.planned - self.done - len(self.failed)


def launch(
    study: Study, store: Store, console: Console, address: str | None = None, max_trials: int | None = None
) -> Summary:
    """Run the pending trials of a study: planned minus done.

    Args:
        address: of a Ray cluster; None starts Ray on this machine and ends it afterwards.
        max_trials: run at most so many.

    Raises:
        InvalidRequest, MissingData, DamagedFile: before anything is started or written.
    """
    specs = expand(study)
    finished = done(store, FinetuneSpec.kind)
    pending = [spec for spec in specs if spec.trial_id not in finished]
    chosen = _in_running_order(pending)[:max_trials]
    if not chosen:
        return Summary(len(specs), len(specs) - len(pending), {}, interrupted=False)
    _require_inputs(chosen)
    require_writable(store)
    watch = tuning.Watch()
    tuning.connect(address)
    try:
        wanted = tuning.share(study.resources)
        if study.resources.gpu and "GPU" not in wanted:
            console.print("This cluster has no GPU: trials run on CPU shares.")
        name = _record_launch(store, study)
        tallies = Tallies(planned=len(specs), done_before=len(specs) - len(pending))
        with _signals(watch, console), ProgressView(tallies, console) as view:
            watch.on_change = lambda: _show(watch, tallies, view)
            tuning.run_round(chosen, store.uri, name, wanted, watch)
            _show(watch, tallies, view)
    finally:
        ray.shutdown()
    return _summary(specs, store, watch)


def _in_running_order(specs: list[FinetuneSpec]) -> list[FinetuneSpec]:
    """Longest first, so that no long trial starts last; within equal lengths by dataset and source."""
    return sorted(specs, key=lambda spec: (-trial_flops(spec), spec.dataset, spec.source, spec.seed))


def _require_inputs(specs: list[FinetuneSpec]) -> None:
    """Load every source and dataset once here: a missing file is one message now, not a failure a trial."""
    for source in dict.fromkeys(spec.source for spec in specs):
        load_source(source)
    for source, dataset in dict.fromkeys((spec.source, spec.dataset) for spec in specs):
        load_dataset(dataset, registry.architecture(registry.source(source).architecture).image_size)


def _record_launch(store: Store, study: Study) -> str:
    """Write down who launches what; returns the launch's id, which sorts by time."""
    record_study(store, study.name, study.digest, study.resolved())
    started = datetime.now(UTC)
    name = f"{started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    facts = {
        "launch": name,
        "study": study.name,
        "digest": study.digest,
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "started_at": started.isoformat(timespec="seconds"),
        "code_version": code_version(),
        "packages": packages(),
    }
    store.replace(launch_key(name), json.dumps(facts).encode())
    return name


@contextmanager
def _signals(watch: tuning.Watch, console: Console) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks running trials to leave; the second ends this process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if watch.stopping:
            raise KeyboardInterrupt
        watch.request_stop()
        console.print("\nStopping: running trials leave at their next batch. Again to leave at once.")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(watch: tuning.Watch, tallies: Tallies, view: ProgressView) -> None:
    outcomes = list(watch.outcomes.values())
    tallies.done = outcomes.count(Outcome.DONE)
    tallies.failed = outcomes.count(Outcome.FAILED) + len(watch.crashes)
    tallies.running = watch.running
    view.update()


def _summary(specs: list[FinetuneSpec], store: Store, watch: tuning.Watch) -> Summary:
    """What the results root says; only reasons come from the watch."""
    finished = done(store, FinetuneSpec.kind)
    failed = {trial: "see its log" for trial, outcome in watch.outcomes.items() if outcome is Outcome.FAILED}
    failed |= watch.crashes
    return Summary(
        planned=len(specs),
        done=sum(spec.trial_id in finished for spec in specs),
        failed={trial: reason for trial, reason in failed.items() if trial not in finished},
        interrupted=watch.stopping,
    )
