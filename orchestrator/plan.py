"""What a study amounts to, and what of it is still to do. No torch."""

from collections.abc import Iterable
from typing import NamedTuple

from jobs import registry
from jobs.registry.costs import flops_evaluated_image, flops_trained_image
from jobs.specs import ALL, AnySpec, PretrainSpec
from jobs.study import Study

ASSUMED_FLOPS_PER_SECOND = 3e12
"""What the paper's trials reached: 25,600 images, 30 epochs and 3 blocks took their authors' GPUs about 2,900 s."""


class Plan(NamedTuple):
    """The size of a study. Cost counts what is pending; done, pending and quarantined add up to trials."""

    study: str
    trials: int
    done: int
    pending: int
    quarantined: int
    images_trained: int
    images_evaluated: int
    flops: float
    gpu_hours: float


def make_plan(study: Study, specs: Iterable[AnySpec], done: set[str], quarantined: set[str]) -> Plan:
    """Count a study's trials and the work that the pending ones are."""
    trials = list(specs)
    finished = [spec for spec in trials if spec.trial_id in done]
    blocked = [spec for spec in trials if spec.trial_id in quarantined - done]
    pending = [spec for spec in trials if spec.trial_id not in done | quarantined]
    trained = [images_trained(spec) for spec in pending]
    evaluated = [images_evaluated(spec) for spec in pending]
    flops = sum(map(trial_flops, pending))
    return Plan(
        study=study.name,
        trials=len(trials),
        done=len(finished),
        pending=len(pending),
        quarantined=len(blocked),
        images_trained=sum(trained),
        images_evaluated=sum(evaluated),
        flops=flops,
        gpu_hours=flops / ASSUMED_FLOPS_PER_SECOND / 3600,
    )


def images_trained(spec: AnySpec) -> int:
    """Images that steps are made on, over all epochs; the steps of an attack on them are not counted."""
    if isinstance(spec, PretrainSpec) or spec.images == ALL:
        return registry.dataset(spec.dataset).train * spec.epochs
    return spec.images * spec.epochs


def images_evaluated(spec: AnySpec) -> int:
    """Test images passed forward, over all evaluated epochs."""
    epochs = spec.epochs if isinstance(spec, PretrainSpec) else len(spec.evaluated_epochs)
    return registry.dataset(spec.dataset).test * epochs


def trial_flops(spec: AnySpec) -> float:
    """Floating-point operations of a trial: forward through everything, backward through the head alone.

    A step of an attack is a forward and a backward pass for the image's gradient alone, about as much as forward.
    """
    if isinstance(spec, PretrainSpec):
        forward = flops_evaluated_image(spec.architecture)
        step = flops_trained_image(spec.architecture, ALL) + 2 * spec.threat.steps * forward
        return images_trained(spec) * step + images_evaluated(spec) * forward
    architecture = registry.source(spec.source).architecture
    return images_trained(spec) * flops_trained_image(architecture, spec.blocks) + images_evaluated(
        spec
    ) * flops_evaluated_image(architecture)


def describe(plan: Plan) -> str:
    """The plan in words, for a terminal."""
    return "\n".join(
        [
            f"{plan.study}: {plan.trials:,} trials: {plan.done:,} done, {plan.pending:,} pending, "
            f"{plan.quarantined:,} quarantined",
            f"pending work: {plan.images_trained:,} images trained, {plan.images_evaluated:,} evaluated, "
            f"{plan.flops / 1e15:,.4g} PFLOP",
            f"about {plan.gpu_hours:,.3g} GPU-hours at {ASSUMED_FLOPS_PER_SECOND / 1e12:g} TFLOP/s, "
            "the rate that the paper's own trials reached",
        ]
    )
