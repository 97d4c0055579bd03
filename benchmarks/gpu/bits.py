"""Equal bits: of two runs, of bundles, and of resumed trials."""

from collections.abc import Iterator

from benchmarks.gpu.machine import Machine, holds
from benchmarks.gpu.trials import (
    ADAMW,
    DEPTHS,
    FORMATS,
    digest,
    known_formats,
    make_trials,
    make_work,
    run_alone,
    run_together,
)
from benchmarks.rows import Row


def equal_bits(machine: Machine) -> Iterator[Row]:
    """Trials twice, and in a bundle: equal parameters, statistics and accuracies in every format."""
    for name, choices in known_formats(machine).items():
        work = make_work(machine, **choices, evaluation="folded")
        alone = [digest(run_alone(machine, work, place)) for place in range(len(DEPTHS))]
        again = [digest(run_alone(machine, work, place)) for place in range(len(DEPTHS))]
        together = [digest(trial) for trial in run_together(machine, work)]
        yield holds(f"two runs in {name} are equal", alone == again)
        yield holds(f"a bundle in {name} equals its trials alone", alone == together)


def resumed_bits(machine: Machine) -> Iterator[Row]:
    """A trial restored from the tensors of another equals it, also in the state of fused steps."""
    for name, choices in {**known_formats(machine), "bfloat16 with AdamW": {**FORMATS["bfloat16"], **ADAMW}}.items():
        work = make_work(machine, depths=(3,), epochs=2, **choices)
        whole = run_alone(machine, work, 0)
        first = make_trials(machine, work)[0]
        first.advance(iter([False, True]).__next__)
        stored = {key: tensor.detach().cpu().clone() for key, tensor in first.tensors().items()}
        second = make_trials(machine, work)[0].restore(
            stored,
            epoch=first.epoch,
            batch=first.batch,
            tally=first.tally,
            evaluations=first.evaluations,
            seconds=first.seconds,
            history=first.own_history,
        )
        second.advance()
        yield holds(f"a resumed trial in {name} equals one without a pause", digest(second) == digest(whole))
