"""The machines of a study: what each runs now, and what it has finished."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from analysis.words import depth_text, size_text
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.provenance import UNKNOWN, parts_of
from jobs.specs.trial import TrialSpec
from orchestrator.live.contents import Contents, Run
from orchestrator.live.studies import Planned, Standing

_ON_NO_MACHINE = ""


class Running(NamedTuple):
    """A trial that a machine runs."""

    trial_id: str
    words: str
    """What it is, for those who know the study."""
    epoch: int | None
    """The epoch of its newest checkpoint; None: it has none yet."""
    epochs: int | None
    seconds: float | None

    @property
    def share(self) -> float | None:
        """How far it is, from 0 to 1."""
        if self.epoch is None or not self.epochs:
            return None
        return min(max((self.epoch - 1) / self.epochs, 0.0), 1.0)


class Machine(NamedTuple):
    host: str
    """Empty: not known yet."""
    device_kinds: list[str]
    running: list[Running]
    done: int
    hours: float
    """Time of the finished trials."""
    last: str
    """When it finished a trial last; empty if it has not."""


class Machines(NamedTuple):
    machines: list[Machine]
    """Those that run something first."""
    device_kinds: dict[str, int]
    """Finished trials by kind of device, where trials that should have the same ran on several; else empty."""
    mixed: int
    """Finished trials that ran on several kinds of device or versions of torch."""
    datasets: dict[str, int]
    """Finished trials by dataset with the first digits of its digest, as in the report, where one name has several
    digests; else empty."""


def machines(contents: Contents, plan: Planned, now: Standing) -> Machines:
    """Group finished and running trials by machine.

    A checkpoint says on which machine it was saved; a running trial without one is listed under no machine.
    """
    running = _running(contents, plan, now)
    own = [run for trial, run in contents.runs.items() if trial in now.done]
    done: dict[str, list[Run]] = {}
    for run in own:
        done.setdefault(run.host or UNKNOWN, []).append(run)
    found = [_machine(host, done.get(host, []), running.get(host, []), contents) for host in {*done, *running}]
    found.sort(key=lambda one: (not one.running, one.host == _ON_NO_MACHINE, one.host))
    by_trial = {trial: run for trial, run in contents.runs.items() if trial in now.done}
    return Machines(found, _several_kinds(by_trial, plan), sum(run.mixed for run in own), several_digests(own))


def _several_kinds(done: Mapping[str, Run], plan: Planned) -> dict[str, int]:
    """Count trials by kind of device where those of one recipe and network ran on several.

    The name of a kind says what a recipe and a network compute, so other ones have other names on one machine.
    """
    alike: dict[tuple[object, ...], Counter[str]] = {}
    for trial, run in done.items():
        spec = plan.specs[trial]
        alike.setdefault((spec.kind, spec.recipe, spec.subject), Counter())[run.device_kind or UNKNOWN] += 1
    several: Counter[str] = Counter()
    for kinds in alike.values():
        several.update(kinds if len(kinds) > 1 else {})
    return dict(several.most_common())


def several_digests(done: Iterable[Run]) -> dict[str, int]:
    """Count trials by dataset and digest, for datasets of which trials have read different images or labels."""
    counts = Counter((run.dataset, run.dataset_sha256) for run in done if run.dataset and run.dataset_sha256)
    digests = Counter(name for name, _ in counts)
    return {f"{name} {digest[:16]}": count for (name, digest), count in counts.most_common() if digests[name] > 1}


def _running(contents: Contents, plan: Planned, now: Standing) -> Mapping[str, list[Running]]:
    found: dict[str, list[Running]] = {}
    for trial in sorted(now.running):
        progress, spec = contents.running.get(trial), plan.specs[trial]
        epochs = getattr(spec, "epochs", None)
        host = _ON_NO_MACHINE if progress is None else progress.host or UNKNOWN
        one = Running(trial, _words(trial, spec), progress and progress.epoch, epochs, progress and progress.seconds)
        found.setdefault(host, []).append(one)
    return found


def _words(trial: str, spec: TrialSpec) -> str:
    """Describe a trial of the grid by its cell and seed; the id says enough about others."""
    if not isinstance(spec, FinetuneSpec):
        return trial
    return f"{spec.source}, {depth_text(spec.blocks)}, {spec.dataset}, {size_text(spec.images)}, seed {spec.seed}"


def _machine(host: str, done: list[Run], running: list[Running], contents: Contents) -> Machine:
    kinds = {part for kind in {run.device_kind for run in done} for part in parts_of(kind or UNKNOWN)}
    kinds |= {kind for one in running if one.epoch for kind in contents.running[one.trial_id].device_kinds[-1:]}
    hours = sum(run.seconds or 0.0 for run in done) / 3600
    last = max((run.finished_at for run in done), default="")
    return Machine(host, sorted(kinds), running, len(done), hours, last)
