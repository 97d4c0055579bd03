"""Timing a few real steps on this machine (``plan --measure``): seconds an image, trained and evaluated."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from jobs import registry
from jobs.networks import BUILDERS, Network
from jobs.numerics import memory_format, numerics
from jobs.optimizers import sgd
from jobs.specs import Sgd
from jobs.transfer import freeze

_STEPS = 3
_MOST_ON_CPU = 16
"""Images a batch; without a GPU a whole batch would take minutes."""


class Rates(NamedTuple):
    """Seconds an image takes on a device, alone on it."""

    trained: float
    evaluated: float
    batch: int
    """Images in the batches that were timed."""


def measure(architecture: str, blocks: int, recipe: Sgd, device: torch.device) -> Rates:
    """Time training and evaluation of a network with random weights on random images: the best of a few steps.

    Numbers do not matter to how long a step takes; that the network has the same shapes does.
    """
    size = registry.architecture(architecture).image_size
    batch = recipe.batch_size if device.type == "cuda" else min(recipe.batch_size, _MOST_ON_CPU)
    with numerics(recipe), torch.random.fork_rng(devices=[]):
        network = Network(BUILDERS[architecture](10), (0.5,) * 3, (0.25,) * 3)
        freeze(network, blocks)
        form = memory_format(recipe)
        network = network.to(device).to(memory_format=form)
        optimizer = sgd(network, recipe)
        images = torch.rand(batch, 3, size, size).to(device).contiguous(memory_format=form)
        labels = torch.randint(10, (batch,)).to(device)

        def step() -> None:
            network.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        def forward() -> None:
            network.eval()
            with torch.no_grad():
                network(images)

        trained, evaluated = (min(_seconds(run, device) for _ in range(_STEPS)) / batch for run in (step, forward))
        return Rates(trained, evaluated, batch)


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
