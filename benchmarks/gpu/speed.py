"""Speed in each format, of evaluations, bundles, optimizers' steps, and with images on the device."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu.machine import Found, Machine, for_each, holds
from benchmarks.gpu.trials import (
    ADAMW,
    DEPTHS,
    FORMATS,
    NETWORK,
    digest,
    finish,
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
from benchmarks.works import Work
from jobs.catalog.costs import flops_trained_image
from jobs.data.array_cache import MachineCache
from jobs.data.datasets import ImageSet
from jobs.data.device_images import kept_on, release
from jobs.data.resize import LIMIT_VARIABLE, StoredImages
from jobs.execution.optimizers import make_optimizer
from jobs.kinds.finetune.trial import Finetuning
from jobs.specs.base import ALL
from orchestrator.planning.gpus import format_of, gpu

CLOSE = 1.25
"""By which factor the plan's rate may be wrong."""


def formats(machine: Machine) -> Iterator[Found]:
    """Images per second of training and evaluation in each format, and the plan's rate against the measured one."""
    ways = {
        **known_formats(machine),
        "float32, contiguous": {"memory_format": "contiguous"},
        "bfloat16, contiguous": {"precision": "bfloat16", "memory_format": "contiguous"},
    }
    return for_each(machine, "formats", _format, ways)


def _format(machine: Machine, name: str, choices: Mapping[str, Any]) -> Iterator[Row]:
    recipe, flops = make_recipe(machine, **choices), flops_trained_image(NETWORK, ALL).total
    trained = rates(machine, machine.size.batch, stepping(machine, recipe))
    yield beside(f"{name}: images/s, training all of ResNet-50", trained)
    yield beside(f"{name}: images/s, evaluating", rates(machine, machine.size.evaluated, looking(machine, recipe)))
    if machine.card is not None and recipe.memory_format == "channels_last":
        planned = gpu(machine.card).reached(format_of(recipe.precision, recipe.tf32)).flops
        factors = [max(rate * flops / planned, planned / (rate * flops)) for rate in trained]
        yield at_most(f"{name}: factor between the plan's rate of {machine.card} and the measured", factors, CLOSE)


def evaluation(machine: Machine) -> Iterator[Found]:
    """Plain over folded evaluation."""
    return for_each(machine, "evaluation", _evaluation, known_formats(machine))


def _evaluation(machine: Machine, name: str, choices: Mapping[str, Any]) -> Iterator[Row]:
    recipe = make_recipe(machine, **choices)
    plain, fast = looking(machine, recipe), looking(machine, recipe, fold=True)
    seconds = [(machine.seconds(plain), machine.seconds(fast)) for _ in range(machine.size.repetitions)]
    yield at_least(f"{name}: plain / folded evaluation", [slow / quick for slow, quick in seconds], 1.1)


def filled_memory(machine: Machine) -> Iterator[Row]:
    """A step with every new tensor filled, torch's default with deterministic algorithms, over one without."""
    filling, not_filling = (stepping(machine, make_recipe(machine), filled=filled) for filled in (True, False))
    seconds = [(machine.seconds(filling), machine.seconds(not_filling)) for _ in range(machine.size.repetitions)]
    yield beside("float32: a step with new tensors filled / not", [slow / quick for slow, quick in seconds])


def bundles(machine: Machine) -> Iterator[Found]:
    """Trials one after another over their bundle. Operations give 2.08 at one trained to six evaluated images."""
    yield from for_each(machine, "bundles", _bundle, {name: FORMATS[name] for name in ("float32", "bfloat16")})
    fast = make_work(machine, precision="bfloat16", evaluation="folded")
    ratios = _alone_over_together(machine, make_work(machine), fast)
    yield beside("trials in float32 alone / a bundle of the recipe fast", ratios)


def _bundle(machine: Machine, name: str, choices: Mapping[str, Any]) -> Iterator[Row]:
    work = make_work(machine, **choices)
    yield at_least(
        f"{name}: trials of blocks 0, 1, 3, 9 alone / in a bundle", _alone_over_together(machine, work, work), 1.7
    )


def _alone_over_together(machine: Machine, slow: Work, fast: Work) -> list[float]:
    """Return seconds of trials one after another over those of a bundle."""
    ratios = []
    for _ in range(_long_repetitions(machine)):
        alone = sum(run_alone(machine, slow, place).seconds for place in range(len(DEPTHS)))
        ratios.append(alone / sum(trial.seconds for trial in run_together(machine, fast)))
    return ratios


def _long_repetitions(machine: Machine) -> int:
    """Return how often whole trials are repeated."""
    return max(1, machine.size.repetitions // 4)


def _constant(room: int, _: torch.device) -> int:
    return room


def images_on_the_device(machine: Machine) -> Iterator[Row]:
    """Trials whose images stay on the device, all or in part, over trials whose batches are copied from files."""
    work = make_work(machine, depths=(0,), epochs=6)
    every = (len(work.data.train.labels_N) + len(work.data.test.labels_N)) * NETWORK.image_size**2
    rooms = (0, every // 2, every)
    seconds: dict[int, list[float]] = {room: [] for room in rooms}
    digests = set[str]()
    with TemporaryDirectory() as folder:
        data = work.data._replace(
            train=_stored(folder, "train", work.data.train), test=_stored(folder, "test", work.data.test)
        )
        for turn in range(_long_repetitions(machine)):
            for room in rooms[:: -1 if turn % 2 else 1]:
                kept = kept_on(machine.device, data, room=partial(_constant, room))
                trial = Finetuning(work.specs[0], work.weights, kept, machine.device)
                finish(machine, trial)
                seconds[room].append(trial.seconds)
                digests.add(digest(trial))
                release()
    for room, where in zip(rooms[1:], ("half", "all"), strict=True):
        ratios = [copied / here for copied, here in zip(seconds[0], seconds[room], strict=True)]
        yield beside(f"blocks 0: images copied for every batch / {where} on the device", ratios)
    yield holds("where images are changes no number: equal", len(digests) == 1)


def _stored(folder: str, name: str, images: ImageSet) -> ImageSet:
    """Return images in a file, from which trials read them where they are many (``jobs.data.resize``)."""
    whole_NCHW = images.images_NCHW[:].numpy()
    cache = MachineCache(Path(folder), LIMIT_VARIABLE, 1)
    stored = cache.array(name, whole_NCHW.shape, whole_NCHW.dtype, lambda: [whole_NCHW])
    return images._replace(images_NCHW=StoredImages(stored))


def fused_steps(machine: Machine) -> Iterator[Found]:
    """A step of the optimizer alone: torch's default over the fused one, and whether their bits are equal."""
    return for_each(machine, "fused_steps", _fused_steps, {"SGD": {}, "AdamW": ADAMW})


def _fused_steps(machine: Machine, name: str, choices: Mapping[str, Any]) -> Iterator[Row]:
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
