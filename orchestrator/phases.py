"""The two parts of a launch: sources are made first, because fine-tuning reads what they leave."""

from typing import NamedTuple

from jobs.attempts import Keeping
from jobs.specs import AnySpec, FinetuneSpec, PretrainSpec
from jobs.study import Resources, Study


class Phase(NamedTuple):
    """Trials of one kind, with what their actors take and keep."""

    trials: list[str]
    resources: Resources
    keeping: Keeping


def phases_of(study: Study, specs: dict[str, AnySpec], pending: list[str]) -> list[Phase]:
    """Pretraining, one phase for each number of replicas, then fine-tuning; only what has pending trials.

    Args:
        specs: all trials of the study, by id.
        pending: ids in the order they should run.
    """
    parts: dict[int, list[str]] = {}
    for trial in pending:
        parts.setdefault(_replicas(specs[trial]), []).append(trial)
    return [
        Phase(trials, _resources(study, replicas), keeping_of(study, specs[trials[0]].kind))
        for replicas, trials in sorted(parts.items(), reverse=True)
    ]


def keeping_of(study: Study, kind: str) -> Keeping:
    """What a trial of this kind leaves behind besides its result."""
    if study.pretrain is not None and kind == PretrainSpec.kind:
        return Keeping(checkpoint_every=1, checkpoint_batches=study.pretrain.checkpoint_batches)
    return Keeping(study.checkpoint_every, weights=study.keep_weights)


def _replicas(spec: AnySpec) -> int:
    """Processes that a trial starts; 0 for fine-tuning, which starts none besides its actor."""
    return 0 if isinstance(spec, FinetuneSpec) else spec.recipe.replicas


def _resources(study: Study, replicas: int) -> Resources:
    if study.pretrain is None or replicas == 0:
        return study.resources
    one = study.pretrain.resources
    return Resources(gpu=one.gpu * replicas, cpu=one.cpu * replicas)
