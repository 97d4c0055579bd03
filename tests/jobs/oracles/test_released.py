"""A trial compared with the ``robustness`` library's own training loop, step by step: the same numbers, bit for bit.

The library's loop is given the order of the images and the random draws; it does everything else itself, on images
created by PIL. Numbers are compared with ``torch.equal``: float32, one thread, the same memory format of weights on
both sides.

The released code by date (docs/decisions/released-code.md). As published, from April to August 2020: ImageNet's mean
and std in both arms, and every training image is augmented; grey images are of mode L until the normalizer expands one
channel to three. As released, from September 2020 on: the target's mean and std unless a robust checkpoint overrides
them, and grey images only go through Grayscale(3).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as transforms

from jobs.data.augmentation import draw
from jobs.data.batches import batch_indices
from jobs.data.datasets import Dataset, ImageSet
from jobs.execution.determinism import memory_format
from jobs.execution.seeding import Purpose, generator
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.networks.builders import initialize
from jobs.specs.recipes import RECIPES, Recipe
from tests.jobs.oracles import pil, released
from tests.jobs.support import CPU, built
from tests.support import present

LEARNING_RATE = 0.01  # random weights with so few images diverge at Table 3's 0.1
EPOCHS = 3  # the learning rate falls after each


@pytest.fixture(scope="module")
def resnet50() -> SourceWeights:
    """Random weights for 1,000 labels, with running statistics that are not the initial ones."""
    rng = torch.Generator().manual_seed(5)
    network = built("resnet50", 1000)
    initialize(network, rng)
    tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    for name, tensor in tensors.items():
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand(tensor.shape, generator=rng) * 0.2 + (0.9 if name.endswith("var") else 0))
    return SourceWeights(tensors, "random")


@dataclass(frozen=True)
class Released:
    """The released code's data loader, over PIL images in the trial's order."""

    trial: Finetuning
    code: "Code"
    images: list[Image.Image]
    labels_N: Tensor
    epochs: Iterator[int]

    def __len__(self) -> int:
        return len(self.trial.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        spec, epoch = self.trial.spec, next(self.epochs)
        order = torch.cat(batch_indices(len(self.trial.subset), spec.recipe.batch_size, spec.seed, epoch))
        assert order.sort().values.tolist() == list(range(len(self.trial.subset))), "every image once an epoch"
        # the order is random, so the trial's is used; batches are formed as in the released loader, which keeps the
        # last one
        for number, batch in enumerate(torch.split(order, spec.recipe.batch_size)):
            indices = self.trial.subset[batch]
            images = [self.images[index] for index in indices.tolist()]
            if self.code.augments(images[0]):
                draws = draw(len(images), generator(spec.seed, Purpose.AUGMENTATION, epoch, number))
                images = [pil.augmented(image, draws, place) for place, image in enumerate(images)]
            yield self.code.to_tensor(images), self.labels_N[indices]


class Code(NamedTuple):
    """How the released code of a period converts PIL images."""

    recipe: Recipe
    augments: Callable[[Image.Image], bool]
    mode: str | None
    """Mode of all images; None keeps their own."""

    def to_tensor(self, images: list[Image.Image]) -> Tensor:
        """Apply ToTensor, giving one channel or three."""
        converted = [image if self.mode is None else image.convert(self.mode) for image in images]
        return torch.stack([transforms.to_tensor(image) for image in converted])


CODES = {
    "as-published": Code(RECIPES["as-published"], augments=lambda image: True, mode=None),
    "as-released": Code(RECIPES["as-released"], augments=lambda image: image.mode == "RGB", mode="RGB"),
}


def photographs(images_NCHW: Tensor) -> list[Image.Image]:
    return [pil.to_pil(image_CHW) for image_CHW in images_NCHW]


def one_batch(trial: Finetuning) -> None:
    answers = iter([False, True])
    trial.advance(lambda: next(answers))


CASES = [
    ("as-published", 0, "cifar10", "natural", "imagenet", "channels_last"),
    ("as-published", 1, "fmnist", "natural", "imagenet", "channels_last"),
    ("as-published", 3, "fmnist", "l2_eps3", "imagenet", "contiguous"),
    pytest.param("as-published", 9, "cifar10", "linf_eps4", "imagenet", "contiguous", marks=pytest.mark.slow),
    pytest.param("as-published", 9, "fmnist", "natural", "imagenet", "channels_last", marks=pytest.mark.slow),
    ("as-released", 0, "cifar10", "l2_eps3", "imagenet", "channels_last"),
    ("as-released", 1, "cifar10", "natural", "cifar10", "channels_last"),
    pytest.param("as-released", 3, "cifar10", "linf_eps4", "imagenet", "channels_last", marks=pytest.mark.slow),
    ("as-released", 9, "cifar10", "natural", "cifar10", "contiguous"),
    ("as-released", 0, "fmnist", "natural", "fmnist", "channels_last"),
    ("as-released", 1, "fmnist", "l2_eps3", "imagenet", "channels_last"),
    ("as-released", 3, "fmnist", "natural", "fmnist", "contiguous"),
    pytest.param("as-released", 9, "fmnist", "linf_eps8", "imagenet", "channels_last", marks=pytest.mark.slow),
]
"""The code, blocks, dataset, source, the mean and std that this code normalizes with, and the memory format of both."""


@pytest.mark.parametrize(("code", "blocks", "dataset", "source", "statistics", "memory"), CASES)
def test_a_trial_is_the_released_code_s(
    code: str,
    blocks: int,
    dataset: str,
    source: str,
    statistics: str,
    memory: str,
    resnet50: SourceWeights,
    few_digits: Dataset,
    colours: Dataset,
) -> None:
    """Compared at each step: first-layer inputs, gradients, weights and every BatchNorm layer's running statistics.

    Compared at each epoch: losses and accuracies.
    """
    colour = dataset == "cifar10"
    data = colours if colour else few_digits._replace(name=dataset)
    data = data._replace(test=ImageSet(data.test.images_NCHW[:20], data.test.labels_N[:20]))
    as_pil = photographs if colour else pil.digits
    train, test = as_pil(data.train.images_NCHW[:]), as_pil(data.test.images_NCHW[:])
    theirs = CODES[code]
    recipe = theirs.recipe.model_copy(
        update={
            "learning_rate": LEARNING_RATE,
            "batch_size": 8,
            "evaluation_batch_size": 16,
            "memory_format": memory,
        }
    )
    spec = FinetuneSpec(
        source=source,
        dataset=dataset,
        blocks=blocks,
        images=12,
        seed=11,
        epochs=EPOCHS,
        evaluate_every=1,
        recipe=recipe,
    )
    trial = Finetuning(spec, resnet50, data, CPU)
    model = released.released_model(resnet50.tensors, trial.network.fc, statistics, blocks)
    model = model.to(memory_format=memory_format(recipe))
    inputs: dict[str, list[Tensor]] = {"ours": [], "theirs": []}
    losses: list[float] = []
    for name, resnet in (("ours", trial.network.model), ("theirs", released.resnet_of(model))):
        resnet.conv1.register_forward_pre_hook(lambda _, args, seen=inputs[name]: seen.append(args[0]))

    def on_step(resnet: nn.Module, images_NCHW: Tensor, labels_N: Tensor) -> None:
        assert images_NCHW.shape[1] == (1 if code == "as-published" and not colour else 3)
        inputs["ours"].clear()
        one_batch(trial)
        assert torch.equal(inputs["ours"][0], inputs["theirs"][-1])
        assert_same_network(trial.network.model, resnet)

    def on_epoch(log: dict[str, Any]) -> None:
        ours = trial.evaluations[-1]
        assert ours.epoch == log["epoch"]
        assert ours.train_loss == pytest.approx(log["train_loss"], rel=1e-12)
        assert ours.test_loss == pytest.approx(log["nat_loss"], rel=1e-12)
        assert ours.train_accuracy == pytest.approx(float(log["train_prec1"]), rel=1e-6)
        assert ours.test_accuracy == pytest.approx(float(log["nat_prec1"]), rel=1e-6)
        losses.append(ours.train_loss)

    loader = Released(trial, theirs, train, data.train.labels_N, iter(range(1, EPOCHS + 1)))
    parts = torch.split(torch.arange(len(test)), 16)
    test_batches = [(theirs.to_tensor([test[i] for i in part.tolist()]), data.test.labels_N[part]) for part in parts]
    released.train_as_released(model, loader, test_batches, EPOCHS, LEARNING_RATE, on_step, on_epoch)
    assert trial.done
    assert len(set(losses)) == EPOCHS


def assert_same_network(ours: nn.Module, theirs: nn.Module) -> None:
    parameters = dict(ours.named_parameters())
    assert parameters.keys() == dict(theirs.named_parameters()).keys()
    for name, expected in theirs.named_parameters():
        found = parameters[name]
        assert found.requires_grad == expected.requires_grad, name
        assert torch.equal(found, expected), f"{name} after the step"
        if expected.requires_grad:
            assert torch.equal(present(found.grad), present(expected.grad)), f"gradient of {name}"
        else:
            assert found.grad is None, name
    buffers = dict(ours.named_buffers())
    for name, buffer in theirs.named_buffers():
        assert torch.equal(buffers[name], buffer), name
