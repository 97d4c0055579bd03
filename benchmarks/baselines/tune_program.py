"""B1: a competent Ray Tune program for fine-tuning trials. It saves no checkpoints, and trials share nothing."""

import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from ray import tune
from torch import Tensor, nn
from torchvision.models.resnet import ResNet

from benchmarks.raw_tune import ENVIRONMENT as ENVIRONMENT  # drivers that call `run` set this before ray.init
from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset, load_dataset
from jobs.data.subsets import draw_subset
from jobs.execution.seeding import Purpose, generator
from jobs.kind import from_plain, plain
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.models.weights import load_source
from jobs.networks.builders import build
from jobs.specs.recipes import Recipe


class Measured(NamedTuple):
    """Accuracies after an evaluated epoch, in percent."""

    epoch: int
    train_accuracy: float
    test_accuracy: float


class Normalised(nn.Module):
    """A ResNet with normalization: maps images in [0, 1] to logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, resnet: ResNet, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.resnet = resnet
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.resnet((images_NCHW - self.mean) / self.std)
        return logits_NK


def network(spec: FinetuneSpec, tensors: dict[str, Tensor] | None = None) -> tuple[Normalised, list[nn.Parameter]]:
    """Return the source's network with a new FC layer, and the parameters to train.

    Args:
        tensors: Weights to use instead of the source's.
    """
    card = PACKAGED.source(spec.source)
    tensors = tensors or load_source(card).tensors
    resnet: Any = build(PACKAGED.architecture(card.architecture), len(tensors["fc.bias"])).model
    resnet.load_state_dict(tensors)
    fc = nn.Linear(resnet.fc.in_features, PACKAGED.dataset(spec.dataset).labels)
    nn.init.normal_(fc.weight, generator=generator(spec.seed, Purpose.FC_INIT))
    nn.init.zeros_(fc.bias)
    resnet.fc = fc
    resnet.requires_grad_(False)
    parameters = [p for module in _trained(resnet, spec.blocks) for p in module.parameters()]
    for parameter in parameters:
        parameter.requires_grad_()
    return Normalised(resnet, card.mean, card.std), parameters


def _trained(resnet: ResNet, trained: int) -> list[nn.Module]:
    blocks = [block for name in ("layer1", "layer2", "layer3", "layer4") for block in getattr(resnet, name)]
    return [*blocks[len(blocks) - trained :], resnet.fc]


def run_trial(spec: FinetuneSpec) -> list[Measured]:
    """Run one trial on the CPU."""
    data = load_dataset(PACKAGED.dataset(spec.dataset), PACKAGED.image_size(spec.source))
    return train(spec, data, *network(spec))


def train(spec: FinetuneSpec, data: Dataset, model: Normalised, parameters: list[nn.Parameter]) -> list[Measured]:
    """Run a trial whose images and network are loaded.

    Only supports what the benchmarks need: grey datasets, ``batch`` or ``source`` mode, the source's normalization,
    and no scaled loss.
    """
    recipe = spec.recipe
    require_simple(recipe, spec.dataset, modes=("batch", "source"))
    torch.set_num_threads(recipe.threads)
    subset = draw_subset(data.train.labels_N, spec.images, spec.seed)
    train_NCHW, labels_N = data.train.images_NCHW[subset], data.train.labels_N[subset]
    form = torch.channels_last if recipe.memory_format == "channels_last" else torch.contiguous_format
    model = model.to(memory_format=form)
    optimizer = torch.optim.SGD(parameters, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)
    found = []
    for epoch in range(1, spec.epochs + 1):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate_at(epoch, spec.epochs)
        set_modes(model, spec)
        correct = 0
        order = torch.randperm(len(subset), generator=generator(spec.seed, Purpose.BATCH_ORDER, epoch))
        for part in torch.split(order, recipe.batch_size):
            logits_NK = step(model, optimizer, floats(train_NCHW[part], form), labels_N[part], recipe)
            correct += int((logits_NK.argmax(1) == labels_N[part]).sum())
        if epoch in spec.evaluated_epochs:
            found.append(Measured(epoch, 100 * correct / len(subset), accuracy(model, data, recipe, form)))
    return found


def set_modes(model: Normalised, spec: FinetuneSpec) -> None:
    """Set the modes for training: frozen layers according to the recipe, the others in training mode."""
    model.train(spec.recipe.frozen_batchnorm == "batch")
    for module in _trained(model.resnet, spec.blocks):
        module.train()


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images_NCHW: Tensor, labels_N: Tensor, recipe: Recipe
) -> Tensor:
    """Train one step on a batch and return its logits, N x K."""
    with autocast(recipe):
        logits_NK: Tensor = model(images_NCHW)
    loss = nn.functional.cross_entropy(logits_NK.float(), labels_N)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
    optimizer.step()
    return logits_NK


def autocast(recipe: Recipe) -> torch.autocast:
    """Return the context in which the network computes in the recipe's precision."""
    return torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16")


def require_simple(recipe: Recipe, dataset: str, modes: Sequence[str] = ("batch",)) -> None:
    """Raise ValueError for recipes that the baselines do not support.

    Args:
        modes: Supported values of ``frozen_batchnorm``.
    """
    augments = PACKAGED.dataset(dataset).colour or recipe.transforms == "as-published"
    choices = (recipe.frozen_batchnorm, recipe.fc_init, recipe.normalization, augments)
    known = [(mode, "normal", "source", False) for mode in modes]
    if choices not in known or recipe.precision == "float16":
        raise ValueError(f"expected a grey dataset and the recipe's defaults for a baseline; got {choices}")


def floats(images_NCHW: Tensor, form: torch.memory_format) -> Tensor:
    """Convert bytes to floats in [0, 1], with grey repeated to three channels."""
    return (images_NCHW.float() / 255).expand(-1, 3, -1, -1).contiguous(memory_format=form)


@torch.no_grad()
def accuracy(model: nn.Module, data: Dataset, recipe: Recipe, form: torch.memory_format) -> float:
    model.eval()
    images_NCHW, labels_N = data.test
    parts = torch.split(torch.arange(len(labels_N)), recipe.evaluation_batch_size)
    with autocast(recipe):
        correct = sum(int((model(floats(images_NCHW[p], form)).argmax(1) == labels_N[p]).sum()) for p in parts)
    return 100 * correct / len(labels_N)


class Actor(tune.Trainable):
    """Runs one trial per configuration and keeps what it has loaded for the next."""

    def setup(self, config: dict[str, Any]) -> None:
        self._spec = from_plain(config["spec"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        assert isinstance(self._spec, FinetuneSpec)
        return {"done": True, "trial": self._spec.trial_id, "measured": [list(row) for row in run_trial(self._spec)]}


def run(specs: Sequence[FinetuneSpec], cpu: float = 1) -> dict[str, list[Measured]]:
    """Run the trials in one Tuner on the connected Ray cluster. Return the measurements by trial id.

    Raises:
        RuntimeError: If a trial fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        results = tune.Tuner(
            tune.with_resources(Actor, tune.PlacementGroupFactory([{"CPU": cpu}])),
            param_space={"spec": tune.grid_search([plain(spec) for spec in specs])},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name="b1",
                storage_path=scratch,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()
        if results.num_errors:
            raise RuntimeError(f"{results.num_errors} trials of the baseline failed: {results.errors[0]}")
        metrics = [result.metrics for result in map(results.__getitem__, range(len(results))) if result.metrics]
    return {each["trial"]: [Measured(*row) for row in each["measured"]] for each in metrics}
