"""Time a few real steps on this machine (``plan --measure``): seconds per trained and per evaluated image."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from jobs.catalog.architecture_card import Architecture
from jobs.execution.determinism import deterministic, memory_format
from jobs.execution.optimizers import make_optimizer
from jobs.kinds.finetune.transfer import freeze
from jobs.networks.builders import build
from jobs.networks.folding import folded
from jobs.networks.network import Network
from jobs.specs.optimizers import TrainingRecipe


class Rates(NamedTuple):
    """Seconds per image of a trial that has the device to itself."""

    trained: float
    evaluated: float


def measure(
    architecture: Architecture, blocks: int, recipe: TrainingRecipe, device: torch.device, batch: int, steps: int
) -> Rates:
    """Time training and evaluation of a network with random weights on random images; the best of some steps.

    The duration of a step depends on the network's shapes, not on the values.

    Args:
        batch: images per step.
        steps: how often each is timed.
    """
    size = architecture.image_size
    with deterministic(recipe), torch.random.fork_rng(devices=[]):
        network = Network(build(architecture, 10), (0.5,) * 3, (0.25,) * 3)
        network.precision = recipe.precision
        network.draw_from(lambda _, shape: torch.rand(shape))
        freeze(network, blocks)
        form = memory_format(recipe)
        network = network.to(device).to(memory_format=form)
        optimizer = make_optimizer(network, recipe)
        images = torch.rand(batch, 3, size, size).to(device).contiguous(memory_format=form)
        labels = torch.randint(10, (batch,)).to(device)

        folds = network.eval().folds(images[:1]) if recipe.evaluation == "folded" else ()

        def step() -> None:
            network.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        def forward() -> None:
            network.eval()
            with torch.inference_mode(), folded(folds):
                network(images)

        trained, evaluated = (min(_seconds(run, device) for _ in range(steps)) / batch for run in (step, forward))
        return Rates(trained, evaluated)


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    """Return the time of a GPU, or of each processor core that torch uses, whatever else runs on it."""
    if device.type != "cuda":
        started = time.process_time()
        run()
        return (time.process_time() - started) / torch.get_num_threads()
    torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - started
