"""The parts of a launch, in order: each kind reads what those before it leave."""

from typing import NamedTuple

from jobs.attempts import Keeping
from jobs.specs import AnySpec, ExaminationSpec, PretrainSpec
from jobs.study import OnOtherDevice, Resources, Study
from orchestrator.finished import examined


class Phase(NamedTuple):
    """Trials of one kind, with what their actors take and keep."""

    trials: list[str]
    resources: Resources
    keeping: Keeping


def phases_of(study: Study, specs: dict[str, AnySpec], pending: list[str]) -> list[Phase]:
    """Sources are made, networks are fine-tuned, then examined; only what has pending trials.

    Pretraining is one phase for each number of replicas; fine-tuned trials whose weights others wait for come before
    the rest; each kind of examination is a phase.

    Args:
        specs: all trials of the study, by id.
        pending: ids in the order they should run.
    """
    waited_for = examined(specs.values())  # those of later launches, too
    parts: dict[tuple[int, int, str, Keeping], list[str]] = {}
    for trial in pending:
        spec = specs[trial]
        keeping = keeping_of(study, spec, waited_for)
        parts.setdefault((rank(spec), -_replicas(spec), spec.kind, keeping), []).append(trial)
    ordered = sorted(parts.items(), key=lambda part: (*part[0][:3], not part[0][3].weights))
    return [Phase(trials, _resources(study, specs[trials[0]]), keeping) for (*_, keeping), trials in ordered]


def rank(spec: AnySpec) -> int:
    """The place of a trial's kind among the parts of a launch."""
    return 0 if isinstance(spec, PretrainSpec) else 2 if isinstance(spec, ExaminationSpec) else 1


def keeping_of(study: Study, spec: AnySpec, waited_for: set[str]) -> Keeping:
    """What a trial leaves behind besides its result.

    Args:
        waited_for: ids of the trials whose weights others are to examine.
    """
    section = study.examinations.get(spec.kind)
    if section is not None:
        return Keeping(1, section.checkpoint_batches, on_other_device=_rule(study, section.resources))
    if study.pretrain is not None and isinstance(spec, PretrainSpec):
        own = study.pretrain
        return Keeping(1, own.checkpoint_batches, on_other_device=_rule(study, own.resources))
    return Keeping(
        study.checkpoint_every,
        weights=study.keep_weights or spec.trial_id in waited_for,
        on_other_device=study.resources.on_other_device,
    )


def _rule(study: Study, own: Resources) -> OnOtherDevice:
    """A section's own rule for its trials; the study's is for all."""
    return "restart" if "restart" in (study.resources.on_other_device, own.on_other_device) else "continue"


def _replicas(spec: AnySpec) -> int:
    """Processes that a trial starts; 0 for one that starts none besides its actor."""
    return spec.recipe.replicas if isinstance(spec, PretrainSpec) else 0


def _resources(study: Study, spec: AnySpec) -> Resources:
    section = study.examinations.get(spec.kind)
    if section is not None:
        return section.resources
    if study.pretrain is None or not isinstance(spec, PretrainSpec):
        return study.resources
    one, replicas = study.pretrain.resources, _replicas(spec)
    return one.model_copy(update={"gpu": one.gpu * replicas, "cpu": one.cpu * replicas})
