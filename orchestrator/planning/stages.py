"""The stages of a launch, in order: each kind reads the output of the kinds before it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jobs.catalog.catalog import Catalog
from jobs.execution.retention import RetentionPolicy
from jobs.kind import kind_of, workload
from jobs.specs.section import AUTO, OnOtherDevice, Resources
from jobs.specs.trial import TrialSpec
from jobs.study.model import Study
from orchestrator.planning.bundles import bundled
from orchestrator.planning.dependencies import networks_needed
from orchestrator.planning.gpu_shares import actor_memory, remedies


class StageTrials(NamedTuple):
    """Trials of one kind that run concurrently, with the resources of their actors and what they keep."""

    trials: list[str]
    resources: Resources
    retention: RetentionPolicy
    memory: float
    """Bytes of GPU memory that the largest of their actors needs (per GPU, with several replicas), as planned."""
    remedy: str
    """What to change if a card has less."""


def stages_of(study: Study, specs: Mapping[str, TrialSpec], pending: Sequence[str]) -> list[StageTrials]:
    """Return the stages with pending trials: train sources, fine-tune networks, then examine them.

    Sources are grouped by their number of replicas. Fine-tuning trials whose weights other trials need come before the
    rest. Each kind of diagnostic is a stage.

    Args:
        specs: All trials of the study, by id.
        pending: Ids in the order in which they should run.
    """
    waited_for = networks_needed(specs.values())  # also by trials of later launches
    catalog = study.catalog
    parts: dict[tuple[int, int, str, RetentionPolicy], list[str]] = {}
    for trial in pending:
        spec = specs[trial]
        replicas, retention = workload(spec, catalog).replicas, retention_of(study, spec, waited_for)
        parts.setdefault((kind_of(spec).stage, -replicas, spec.kind, retention), []).append(trial)
    ordered = sorted(parts.items(), key=lambda part: (*part[0][:3], not part[0][3].weights))
    return [
        StageTrials(
            trials,
            _resources(study, specs[trials[0]], catalog),
            retention,
            *_memory([specs[trial] for trial in trials], study),
        )
        for (*_, retention), trials in ordered
    ]


def _memory(specs: Sequence[TrialSpec], study: Study) -> tuple[float, str]:
    """Return the bytes of GPU memory of the largest actor, and what to change if a card has less."""
    bundles = [[workload(spec, study.catalog) for spec in bundle] for bundle in bundled(specs, study.bundle)]
    return actor_memory(bundles), remedies(bundles)


def retention_of(study: Study, spec: TrialSpec, waited_for: set[str]) -> RetentionPolicy:
    """Return what a trial keeps besides its result.

    Args:
        waited_for: Ids of the trials whose weights other trials examine.
    """
    weights = study.keep_weights or spec.trial_id in waited_for
    section = study.sections.get(spec.kind)
    if section is None:
        return RetentionPolicy(study.checkpoint_every, None, weights, study.resources.on_other_device)
    return RetentionPolicy(1, section.checkpoint_batches, weights, _rule(study, section.resources))


def _rule(study: Study, own: Resources) -> OnOtherDevice:
    """Combine the rule of a section with that of the study, which covers all trials: either can require a restart."""
    return "restart" if "restart" in (study.resources.on_other_device, own.on_other_device) else "continue"


def _resources(study: Study, spec: TrialSpec, catalog: Catalog) -> Resources:
    """Return the resources of an actor: the section's, times the number of replicas that share a trial's batches."""
    section = study.sections.get(spec.kind)
    if section is None:
        return study.resources
    resources, replicas = section.resources, workload(spec, catalog).replicas
    if replicas == 1:
        return resources
    gpu = 1 if resources.gpu == AUTO else resources.gpu  # each replica has a card of its own
    return resources.model_copy(update={"gpu": gpu * replicas, "cpu": resources.cpu * replicas})
