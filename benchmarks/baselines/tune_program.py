"""B1: a competent Ray Tune program for fine-tuning trials. Nothing is saved on the way, and nothing is shared."""

import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from ray import tune
from torch import Tensor, nn
from torchvision.models.resnet import ResNet

from benchmarks.raw_tune import ENVIRONMENT as ENVIRONMENT  # what a driver of `run` puts into its own before ray.init
from jobs import registry
from jobs.data.datasets import Dataset, load_dataset
from jobs.data.subsets import draw_subset
from jobs.networks import BUILDERS
from jobs.randomness import Purpose, generator
from jobs.specs import FinetuneSpec, Recipe, from_plain, plain
from jobs.weights import load_source


class Measured(NamedTuple):
    """After an evaluated epoch, in percent."""

    epoch: int
    train_accuracy: float
    test_accuracy: float


class Normalised(nn.Module):
    """A ResNet behind its normaliser: images in [0, 1] in, logits out."""

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
    """The source's network with a fresh FC layer, and the parameters to train.

    Args:
        tensors: instead of the source's.
    """
    card = registry.source(spec.source)
    tensors = tensors or load_source(spec.source).tensors
    resnet = BUILDERS[card.architecture](len(tensors["fc.bias"]))
    resnet.load_state_dict(tensors)
    fc = nn.Linear(resnet.fc.in_features, registry.dataset(spec.dataset).labels)
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
    """One trial from beginning to end on the CPU."""
    size = registry.architecture(registry.source(spec.source).architecture).image_size
    return train(spec, load_dataset(spec.dataset, size), *network(spec))


def train(spec: FinetuneSpec, data: Dataset, model: Normalised, parameters: list[nn.Parameter]) -> list[Measured]:
    """A trial whose images and network are loaded.

    Grey datasets, ``batch`` or ``source`` mode and the source's normaliser: what the benchmarks have.
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
            logits_NK = step(model, optimizer, floats(train_NCHW[part], form), labels_N[part])
            correct += int((logits_NK.argmax(1) == labels_N[part]).sum())
        if epoch in spec.evaluated_epochs:
            found.append(Measured(epoch, 100 * correct / len(subset), accuracy(model, data, recipe, form)))
    return found


def set_modes(model: Normalised, spec: FinetuneSpec) -> None:
    """For training: frozen layers as the recipe says, the others in training mode."""
    model.train(spec.recipe.frozen_batchnorm == "batch")
    for module in _trained(model.resnet, spec.blocks):
        module.train()


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
    """One step on a batch; its logits N x K."""
    logits_NK: Tensor = model(images_NCHW)
    loss = nn.functional.cross_entropy(logits_NK, labels_N)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
    optimizer.step()
    return logits_NK


def require_simple(recipe: Recipe, dataset: str, modes: Sequence[str] = ("batch",)) -> None:
    """The baselines do what the benchmarks need and refuse the rest.

    Args:
        modes: of ``frozen_batchnorm``.
    """
    augments = registry.dataset(dataset).colour or recipe.transforms == "as-published"
    choices = (recipe.frozen_batchnorm, recipe.fc_init, recipe.normalization, augments)
    if choices not in [(mode, "normal", "source", False) for mode in modes]:
        raise ValueError(f"baselines fine-tune on grey datasets with the recipe's defaults, not {choices}")


def floats(images_NCHW: Tensor, form: torch.memory_format) -> Tensor:
    """Bytes to [0, 1], grey repeated to three channels."""
    return (images_NCHW.float() / 255).expand(-1, 3, -1, -1).contiguous(memory_format=form)


@torch.no_grad()
def accuracy(model: nn.Module, data: Dataset, recipe: Recipe, form: torch.memory_format) -> float:
    model.eval()
    images_NCHW, labels_N = data.test
    parts = torch.split(torch.arange(len(labels_N)), recipe.evaluation_batch_size)
    correct = sum(int((model(floats(images_NCHW[p], form)).argmax(1) == labels_N[p]).sum()) for p in parts)
    return 100 * correct / len(labels_N)


class Actor(tune.Trainable):
    """Runs one trial a configuration; what it has loaded stays for the next."""

    def setup(self, config: dict[str, Any]) -> None:
        self._spec = from_plain(config["spec"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        assert isinstance(self._spec, FinetuneSpec)
        return {"done": True, "trial": self._spec.trial_id, "measured": [list(row) for row in run_trial(self._spec)]}


def run(specs: Sequence[FinetuneSpec], cpu: float = 1) -> dict[str, list[Measured]]:
    """The trials through one Tuner on the Ray that is connected; by trial id.

    Raises:
        RuntimeError: when a trial fails.
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
