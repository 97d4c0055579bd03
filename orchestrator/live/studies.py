"""The studies of a results root: which there are, and what each plans."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from jobs.errors import DeltaSweepError
from jobs.kind import workload
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import Failure, quarantined
from jobs.results.studies import unlaunched
from jobs.specs.trial import TrialSpec, recipe_digest
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.live.contents import Contents
from orchestrator.planning.bundles import bundled
from orchestrator.planning.dependencies import completion
from orchestrator.planning.gpu_shares import actor_memory, even_share
from orchestrator.study.load import parse_study


class Recorded(NamedTuple):
    """A study of a root, in the version that was launched last."""

    name: str
    digest: str
    text: str


def recorded(contents: Contents) -> list[Recorded]:
    """Return the launched studies, the one that was launched last first, then those whose trials ran by themselves."""
    texts = {(record.name, record.digest): record for record in contents.studies}
    found: dict[str, Recorded] = {}
    for launch in reversed(contents.launches):
        record = texts.get((launch.study, launch.digest))
        if record is not None and launch.study not in found:
            found[launch.study] = Recorded(record.name, record.digest, record.text)
    for record in unlaunched(contents.studies, contents.launches):
        found[record.name] = Recorded(record.name, record.digest, record.text)
    return list(found.values())


class Place(NamedTuple):
    """A cell of the grid, in which trials differ only in their seeds."""

    source: str
    blocks: int
    dataset: str
    images: int


@dataclass(frozen=True)
class Planned:
    """A study, and its trials."""

    study: Study
    specs: Mapping[str, TrialSpec]
    """By trial id."""

    @cached_property
    def tuned(self) -> dict[str, FinetuneSpec]:
        """The trials of the grid."""
        return {trial: spec for trial, spec in self.specs.items() if isinstance(spec, FinetuneSpec)}

    @cached_property
    def recipes(self) -> list[str]:
        """The digests of the grid's recipes, in the order of the study."""
        return list(dict.fromkeys(map(recipe_digest, self.study.recipes)))

    @cached_property
    def places(self) -> dict[str, dict[str, Place]]:
        """The cell of each trial of the grid by trial id, by recipe."""
        digests = {recipe: recipe_digest(recipe) for recipe in {spec.recipe for spec in self.tuned.values()}}
        found: dict[str, dict[str, Place]] = {digest: {} for digest in self.recipes}
        for trial, spec in self.tuned.items():
            found.setdefault(digests[spec.recipe], {})[trial] = Place(
                spec.source, spec.blocks, spec.dataset, spec.images
            )
        return found

    @cached_property
    def sources(self) -> list[str]:
        """The sources of the grid, in the order of the study."""
        return list(dict.fromkeys(spec.source for spec in self.tuned.values()))

    def gpu_shares(self, card: float) -> dict[str, float]:
        """Return the GPUs that the actor of each trial reserves, by trial id.

        Args:
            card: bytes of a GPU, of which ``gpu: auto`` takes as much as trials of the kind are planned to need.
        """
        if card in self._shares:
            return self._shares[card]
        study, found = self.study, dict[str, float]()
        for kind in {spec.kind for spec in self.specs.values()}:
            section = study.sections.get(kind)
            resources = (study if section is None else section).resources
            trials = {trial: spec for trial, spec in self.specs.items() if spec.kind == kind}
            works = {trial: workload(spec, study.catalog) for trial, spec in trials.items()}
            bundles = bundled(trials.values(), study.bundle)
            needed = actor_memory([works[spec.trial_id] for spec in bundle] for bundle in bundles)
            auto = even_share(needed, card)
            for trial, work in works.items():
                asked = (1 if work.replicas > 1 else auto) if isinstance(resources.gpu, str) else resources.gpu
                found[trial] = asked * (1 if section is None else work.replicas)
        self._shares[card] = found  # complete: several threads ask
        return found

    @cached_property
    def _shares(self) -> dict[float, dict[str, float]]:
        """The GPUs of each trial, by the bytes of a GPU."""
        return {}

    @cached_property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(spec.dataset for spec in self.tuned.values()))


def planned(record: Recorded, uri: str) -> Planned | str:
    """Expand a recorded study; return why this is impossible if it is. No code of the study's builders runs."""
    try:
        study = parse_study(record.text, f"{uri}/studies/{record.name}/{record.digest}.yaml", recorded=True)
        return Planned(study, {spec.trial_id: spec for spec in expand(study)})
    except DeltaSweepError as error:
        return str(error)


class Standing(NamedTuple):
    """The trials of a study, each in exactly one of six states, as in ``orchestrator.planning.status``."""

    done: set[str]
    damaged: Mapping[str, str]
    quarantined: set[str]
    running: set[str]
    failed: dict[str, Failure]
    """Last failures of trials without a result, which the next launch retries."""
    pending: set[str]

    @property
    def not_well(self) -> set[str]:
        """Trials that failed, are quarantined, or whose result is damaged."""
        return {*self.failed, *self.quarantined, *self.damaged}

    def state_of(self, trial: str) -> str:
        """Return the name of a trial's state; empty if the study does not plan it."""
        return next((name for name, trials in self._asdict().items() if trial in trials), "")


def standing(plan: Planned, contents: Contents) -> Standing:
    """Classify a study's trials, in the order of precedence of ``status``."""
    trials = plan.specs.keys()
    torn = {trial: message for trial, message in contents.damaged.items() if trial in trials}
    known = completion(plan.specs, contents.results.keys() | torn.keys(), torn, lambda: contents.weights)
    rest = set(trials) - known.done - torn.keys()
    blocked = quarantined(contents.failures, RetryPolicy.quarantine_after) & rest
    rest -= blocked
    running = contents.in_flight & rest
    rest -= running
    last = last_failures(contents.failures)
    failed = {trial: last[trial] for trial in last if trial in rest}
    return Standing(known.done, torn, blocked, running, failed, rest - failed.keys())


def last_failures(failures: Sequence[Failure]) -> dict[str, Failure]:
    """Return the failure with the highest attempt of each trial, the latest first."""
    last: dict[str, Failure] = {}
    for failure in failures:
        known = last.pop(failure.trial_id, None)
        last[failure.trial_id] = failure if known is None or known.attempt < failure.attempt else known
    return dict(reversed(last.items()))


class States:
    """The states of a root's trials: each that in the study launched last that plans it."""

    def __init__(self, contents: Contents, plan: Callable[[Recorded], Planned | str]) -> None:
        """
        Args:
            plan: returns a study's trials, or why they are unknown.
        """
        self._contents = contents
        self._plan = plan
        self._recorded = recorded(contents)
        self._in_flight = contents.in_flight
        self._standings: dict[str, Standing] = {}
        """By study."""

    def planned(self, trial: str) -> tuple[TrialSpec | None, str]:
        """Return a trial's spec and state; None and empty if no study plans it."""
        for record in self._recorded:
            plan = self._plan(record)
            if isinstance(plan, Planned) and trial in plan.specs:
                if record.name not in self._standings:
                    self._standings[record.name] = standing(plan, self._contents)
                return plan.specs[trial], self._standings[record.name].state_of(trial)
        return None, ""

    def name(self, trial: str) -> str:
        """Return a trial's state; of one that no study plans, whether it is done or running; else empty."""
        _, state = self.planned(trial)
        if state:
            return state
        return "done" if trial in self._contents.results else "running" if trial in self._in_flight else ""
