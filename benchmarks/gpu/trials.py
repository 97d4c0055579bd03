"""Trials and steps of ResNet-50 on the measured device."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.machine import Machine, OutOfTime
from benchmarks.works import Work, resnet50
from jobs.catalog.catalog import PACKAGED
from jobs.execution.determinism import deterministic, memory_format
from jobs.execution.optimizers import make_optimizer
from jobs.kinds.finetune.bundle import Bundle
from jobs.kinds.finetune.transfer import freeze
from jobs.kinds.finetune.trial import Finetuning
from jobs.networks.builders import build
from jobs.networks.folding import folded
from jobs.networks.network import Network
from jobs.specs.base import ALL
from jobs.specs.recipes import Recipe

NETWORK = PACKAGED.architecture("resnet50")
DEPTHS = (0, 1, 3, 9)

FORMATS: dict[str, dict[str, Any]] = {
    "float32": {},
    "TF32": {"tf32": True},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
}
ADAMW = {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05}


def known_formats(machine: Machine) -> dict[str, dict[str, Any]]:
    """Return the choices of each format, on processors without float16, which they emulate very slowly."""
    return {name: choices for name, choices in FORMATS.items() if machine.device.type == "cuda" or name != "float16"}


def make_recipe(machine: Machine, **choices: Any) -> Recipe:
    size = machine.size
    return Recipe.model_validate({"batch_size": size.batch, "evaluation_batch_size": size.evaluated, **choices})


def make_work(
    machine: Machine,
    depths: Sequence[int] = DEPTHS,
    epochs: int = 1,
    images: tuple[int, int] | None = None,
    **choices: Any,
) -> Work:
    """Return trials of these depths.

    Args:
        images: training and test images; by default those of timed trials.
        choices: of the recipe.
    """
    size = machine.size
    trained, tested = images or (size.trained, size.tested)
    sizes = {"batch_size": size.batch, "evaluation_batch_size": size.evaluated, "learning_rate": 0.01}
    return resnet50(trained, tested, {**sizes, **choices}, depths=depths, epochs=epochs)


def compared_work(machine: Machine, depths: Sequence[int] = DEPTHS, epochs: int | None = None, **choices: Any) -> Work:
    """Return trials whose bits are compared. They take several steps, of which the last of an epoch has fewer images.

    Args:
        epochs: by default two; in float16 more, because steps are skipped until the scale of the loss has settled.
    """
    usual = 4 if choices.get("precision") == "float16" else 2
    return make_work(machine, depths, epochs or usual, machine.size.compared, **choices)


def make_trials(machine: Machine, work: Work) -> list[Finetuning]:
    return [Finetuning(spec, work.weights, work.data, machine.device) for spec in work.specs]


def finish(machine: Machine, trial: Finetuning | Bundle) -> None:
    """Run a trial or bundle to its end.

    Raises:
        OutOfTime: if the time ends before.
    """
    trial.advance(lambda: machine.late)
    if not trial.done:
        raise OutOfTime("out of time")
    machine.wait()


def run_alone(machine: Machine, work: Work, place: int) -> Finetuning:
    """Run one of the trials (``finish``)."""
    trial = Finetuning(work.specs[place], work.weights, work.data, machine.device)
    finish(machine, trial)
    return trial


def run_together(machine: Machine, work: Work) -> list[Finetuning]:
    """Run the trials in a bundle (``finish``)."""

    def failed(trial: Finetuning, error: Exception) -> None:
        raise error

    trials = make_trials(machine, work)
    first, *others = (Bundle(trial, failed) for trial in trials)
    if not all(first.join(other) for other in others):
        raise RuntimeError("the trials did not join the bundle")
    finish(machine, first)
    return trials


def digest(trial: Finetuning) -> str:
    """Return a digest of a trial's tensors and rows, times left out."""
    hashed = hashlib.sha256()
    for name, tensor in trial.tensors().items():
        hashed.update(name.encode())
        hashed.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    hashed.update(repr([row._replace(seconds=0.0) for row in trial.evaluations]).encode())
    return hashed.hexdigest()


def make_network(machine: Machine, recipe: Recipe) -> Network:
    network = Network(build(NETWORK, 1000), (0.5,) * 3, (0.25,) * 3)
    network.precision = recipe.precision
    freeze(network, ALL)
    return network.to(machine.device).to(memory_format=memory_format(recipe))


def make_images(machine: Machine, recipe: Recipe, count: int) -> torch.Tensor:
    shape = (count, 3, NETWORK.image_size, NETWORK.image_size)
    return torch.rand(shape, device=machine.device).contiguous(memory_format=memory_format(recipe))


def stepping(machine: Machine, recipe: Recipe, filled: bool = False) -> Callable[[], None]:
    """Return a training step of the whole network, run once to warm up.

    Args:
        filled: whether new tensors are filled.
    """
    network = make_network(machine, recipe)
    optimizer = make_optimizer(network, recipe)
    images_NCHW = make_images(machine, recipe, machine.size.batch)
    labels_N = torch.randint(1000, (machine.size.batch,), device=machine.device)

    switches: Any = torch.utils.deterministic  # a module with properties, which mypy does not see

    def step() -> None:
        with deterministic(recipe):
            switches.fill_uninitialized_memory = filled
            network.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images_NCHW), labels_N).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    step()
    return step


def looking(machine: Machine, recipe: Recipe, fold: bool = False) -> Callable[[], None]:
    """Return an evaluation of a batch, run once to warm up."""
    network = make_network(machine, recipe).eval()
    images_NCHW = make_images(machine, recipe, machine.size.evaluated)
    folds = network.folds(images_NCHW[:1]) if fold else ()

    def look() -> None:
        with deterministic(recipe), torch.inference_mode(), folded(folds):
            network(images_NCHW)

    look()
    return look


def rates(machine: Machine, images: int, work: Callable[[], None]) -> list[float]:
    """Return images per second, one number for each repetition.

    Raises:
        OutOfTime: if it is too late for one of them.
    """
    return [images / machine.seconds(work) for _ in range(machine.size.repetitions)]
