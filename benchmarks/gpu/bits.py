"""Equal bits: of two runs, of bundles, and of resumed trials."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from benchmarks.gpu.machine import Found, Machine, for_each, holds
from benchmarks.gpu.trials import (
    ADAMW,
    DEPTHS,
    FORMATS,
    compared_work,
    digest,
    finish,
    known_formats,
    make_trials,
    run_alone,
    run_together,
)
from benchmarks.rows import Row, beside
from jobs.kinds.finetune.trial import Finetuning
from jobs.provenance import History
from jobs.specs.base import ALL

PAUSED_AFTER = 3
"""Batches: in the middle of an epoch."""


def equal_bits(machine: Machine) -> Iterator[Found]:
    """Trials twice, and in a bundle: equal parameters, statistics and accuracies in every format.

    They take several steps, of which the last of an epoch has fewer images. Trials that change nothing show nothing.
    """
    return for_each(machine, "equal_bits", _equal_bits, known_formats(machine))


def _equal_bits(machine: Machine, name: str, choices: Mapping[str, Any]) -> Iterator[Row]:
    work = compared_work(machine, **choices, evaluation="folded")
    starts = [parameters(trial) for trial in make_trials(machine, work)]
    trials = [run_alone(machine, work, place) for place in range(len(DEPTHS))]
    alone = [digest(trial) for trial in trials]
    again = [digest(run_alone(machine, work, place)) for place in range(len(DEPTHS))]
    together = [digest(trial) for trial in run_together(machine, work)]
    yield holds(f"two runs in {name} are equal", alone == again)
    yield holds(f"a bundle in {name} equals its trials alone", alone == together)
    yield holds(
        f"these trials in {name} change all their parameters", all(map(all_differ, starts, map(parameters, trials)))
    )
    yield from scales(name, trials)
    whole = compared_work(machine, depths=(ALL,), **choices, evaluation="folded")
    first, second = (digest(run_alone(machine, whole, 0)) for _ in range(2))
    yield holds(f"two runs of all blocks in {name} are equal", first == second)


def parameters(trial: Finetuning) -> list[torch.Tensor]:
    """Return copies of the parameters that a trial trains."""
    return [parameter.detach().clone() for parameter in trial.trained_parameters.values()]


def all_differ(tensors: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return not any(torch.equal(one, other) for one, other in zip(tensors, others, strict=True))


def scales(name: str, trials: list[Finetuning]) -> Iterator[Row]:
    """In float16: the scales of the loss after the last step, and whether they have settled: that step was taken."""
    states = [{key: float(tensor) for key, tensor in trial.loss_scale.tensors().items()} for trial in trials]
    if all(states):
        yield beside(
            f"these trials in {name}: scale of the loss at the end", [state["loss-scale/scale"] for state in states]
        )
        yield holds(
            f"these trials in {name}: the scale of the loss settles", all(state["loss-scale/steps"] for state in states)
        )


def resumed_bits(machine: Machine) -> Iterator[Found]:
    """A trial restored from the tensors of another equals it, also in the state of fused steps."""
    ways = {**known_formats(machine), "bfloat16 with AdamW": {**FORMATS["bfloat16"], **ADAMW}}
    return for_each(machine, "resumed_bits", _resumed_bits, ways)


def _resumed_bits(machine: Machine, name: str, choices: Mapping[str, Any]) -> Iterator[Row]:
    work = compared_work(machine, depths=(3,), **choices)
    whole = run_alone(machine, work, 0)
    first = make_trials(machine, work)[0]
    first.advance(iter([False] * PAUSED_AFTER + [True]).__next__)
    stored = {key: tensor.detach().cpu().clone() for key, tensor in first.tensors().items()}
    second = make_trials(machine, work)[0].restore(
        stored,
        epoch=first.epoch,
        batch=first.batch,
        tally=first.tally,
        evaluations=first.evaluations,
        seconds=first.seconds,
        history=History(),
    )
    finish(machine, second)
    yield holds(f"a resumed trial in {name} equals one without a pause", digest(second) == digest(whole))
