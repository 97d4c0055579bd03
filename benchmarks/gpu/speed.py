"""Speed in each format, of evaluations, bundles, optimizers' steps, and with images on the device."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu.machine import Machine, holds
from benchmarks.gpu.trials import (
    ADAMW,
    DEPTHS,
    FORMATS,
    NETWORK,
    digest,
    known_formats,
    looking,
    make_network,
    make_recipe,
    make_work,
    rates,
    run_alone,
    run_together,
    stepping,
)
from benchmarks.rows import Row, at_least, at_most, beside
from jobs.catalog.costs import flops_trained_image
from jobs.data.device_images import kept_on, release
from jobs.execution.optimizers import make_optimizer
from jobs.kinds.finetune.trial import Finetuning
from jobs.specs.base import ALL
from orchestrator.planning.gpus import format_of, gpu

CLOSE = 1.25
"""By which factor the plan's rate may be wrong."""


def formats(machine: Machine) -> Iterator[Row]:
    """Images per second of training and evaluation in each format, and the plan's rate against the measured one."""
    ways = {
        **known_formats(machine),
        "float32, contiguous": {"memory_format": "contiguous"},
        "bfloat16, contiguous": {"precision": "bfloat16", "memory_format": "contiguous"},
    }
    flops = flops_trained_image(NETWORK, ALL).total
    for name, choices in ways.items():
        recipe = make_recipe(machine, **choices)
        trained = rates(machine, machine.size.batch, stepping(machine, recipe))
        yield beside(f"{name}: images/s, training all of ResNet-50", trained)
        yield beside(f"{name}: images/s, evaluating", rates(machine, machine.size.evaluated, looking(machine, recipe)))
        if machine.card is not None and recipe.memory_format == "channels_last":
            planned = gpu(machine.card).reached(format_of(recipe.precision, recipe.tf32)).flops
            factors = [max(rate * flops / planned, planned / (rate * flops)) for rate in trained]
            yield at_most(f"{name}: factor between the plan's rate of {machine.card} and the measured", factors, CLOSE)


def evaluation(machine: Machine) -> Iterator[Row]:
    """Plain over folded evaluation."""
    for name, choices in known_formats(machine).items():
        recipe = make_recipe(machine, **choices)
        plain, fast = looking(machine, recipe), looking(machine, recipe, fold=True)
        seconds = [(machine.seconds(plain), machine.seconds(fast)) for _ in range(machine.size.repetitions)]
        yield at_least(f"{name}: plain / folded evaluation", [slow / quick for slow, quick in seconds], 1.1)


def filled_memory(machine: Machine) -> Iterator[Row]:
    """A step with every new tensor filled, torch's default with deterministic algorithms, over one without."""
    filling, not_filling = (stepping(machine, make_recipe(machine), filled=filled) for filled in (True, False))
    seconds = [(machine.seconds(filling), machine.seconds(not_filling)) for _ in range(machine.size.repetitions)]
    yield beside("float32: a step with new tensors filled / not", [slow / quick for slow, quick in seconds])


def bundles(machine: Machine) -> Iterator[Row]:
    """Trials one after another over their bundle. Operations give 2.08 at one trained to six evaluated images."""
    for name in ("float32", "bfloat16"):
        work = make_work(machine, **FORMATS[name])
        ratios = []
        for _ in range(max(1, machine.size.repetitions // 4)):
            alone = sum(run_alone(machine, work, place).seconds for place in range(len(DEPTHS)))
            ratios.append(alone / sum(trial.seconds for trial in run_together(machine, work)))
        yield at_least(f"{name}: trials of blocks 0, 1, 3, 9 alone / in a bundle", ratios, 1.7)
    fast = make_work(machine, precision="bfloat16", evaluation="folded")
    slow = make_work(machine)
    ratios = []
    for _ in range(max(1, machine.size.repetitions // 4)):
        alone = sum(run_alone(machine, slow, place).seconds for place in range(len(DEPTHS)))
        ratios.append(alone / sum(trial.seconds for trial in run_together(machine, fast)))
    yield beside("trials in float32 alone / a bundle of the recipe fast", ratios)


def _constant(room: int, _: torch.device) -> int:
    return room


def images_on_the_device(machine: Machine) -> Iterator[Row]:
    """Trials whose images stay on the device, all or in part, over trials whose batches are copied."""
    work = make_work(machine, depths=(0,), epochs=6)
    every = (len(work.data.train.labels_N) + len(work.data.test.labels_N)) * NETWORK.image_size**2
    seconds, digests = [], []
    for room in (0, every // 2, every):
        data = kept_on(machine.device, work.data, room=partial(_constant, room))
        trial = Finetuning(work.specs[0], work.weights, data, machine.device)
        trial.advance()
        seconds.append(trial.seconds)
        digests.append(digest(trial))
        release()
    yield beside("blocks 0: images copied for every batch / half on the device", [seconds[0] / seconds[1]])
    yield beside("blocks 0: images copied for every batch / all on the device", [seconds[0] / seconds[2]])
    yield holds("where images are changes no number: equal", len(set(digests)) == 1)


def fused_steps(machine: Machine) -> Iterator[Row]:
    """A step of the optimizer alone: torch's default over the fused one, and whether their bits are equal."""
    for name, choices in {"SGD": {}, "AdamW": ADAMW}.items():
        recipe = make_recipe(machine, **choices)
        stepping, states = {}, {}
        for fused in (False, True):
            torch.manual_seed(0)
            network = make_network(machine, recipe)
            optimizer = make_optimizer(network, recipe)
            for group in optimizer.param_groups:
                group["fused"] = True if fused else None  # None: torch chooses among its others, as by default
            for parameter in network.parameters():
                parameter.grad = torch.ones_like(parameter) * 1e-3
            optimizer.step()
            optimizer.step()
            states[fused] = [parameter.detach().clone() for parameter in network.parameters()]
            stepping[fused] = optimizer.step
        seconds = [
            (machine.seconds(stepping[False]), machine.seconds(stepping[True])) for _ in range(machine.size.repetitions)
        ]
        yield beside(f"{name}: an optimizer's step, torch's default / fused", [slow / quick for slow, quick in seconds])
        same = all(torch.equal(one, other) for one, other in zip(*states.values(), strict=True))
        yield beside(f"{name}: 1 if fused steps give the bits of torch's default", [float(same)])
