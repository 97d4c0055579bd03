"""From a raw image to the first convolution's input, compared with torchvision's transforms on PIL images."""

from collections.abc import Callable

import pytest
import torch
from robustness.tools.helpers import InputNormalize
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.functional import to_tensor

from jobs.data.augmentation import augment, draw
from jobs.data.datasets import Dataset, ImageSet
from jobs.execution.seeding import Purpose, generator
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.specs.recipes import RECIPES
from tests.jobs.oracles import pil
from tests.jobs.oracles.released import STATISTICS
from tests.jobs.support import CPU, finetune_spec
from tests.packaged import packaged_dataset


def first_convolution_s_inputs(trial: Finetuning) -> list[Tensor]:
    """Return the inputs of one epoch: three training batches, then the test set."""
    seen: list[Tensor] = []
    trial.network.model.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    trial.advance()
    assert len(seen) == 4
    return seen


def indices(trial: Finetuning) -> list[Tensor]:
    """Return the indices of the images in the three training batches."""
    return [trial.subset[batch] for batch in trial.batches]


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("normalization", ["source", "target"])
def test_grey_images(normalization: str, size: int, weights: SourceWeights) -> None:
    """Resize and Grayscale(3) for training and test."""
    digits = packaged_dataset("digits", size)
    data = digits._replace(test=ImageSet(digits.test.images_NCHW[:20], digits.test.labels_N[:20]))
    trial = Finetuning(finetune_spec({"normalization": normalization}, epochs=1), weights, data, CPU)
    released = transforms.Compose([transforms.Grayscale(3), transforms.ToTensor()])
    normalize = transforms.Normalize(*STATISTICS["fmnist" if normalization == "source" else "digits"])
    parts = [*(data.train.images_NCHW[batch] for batch in indices(trial)), data.test.images_NCHW[:]]
    for found_NCHW, bytes_NCHW in zip(first_convolution_s_inputs(trial), parts, strict=True):
        wanted = [normalize(released(image)) for image in pil.digits(bytes_NCHW)]
        assert torch.equal(found_NCHW, torch.stack(wanted))


@pytest.mark.parametrize(("source", "statistics"), [("fmnist_natural", "cifar10"), ("fmnist_l2_eps1", "fmnist")])
def test_colour_images(source: str, statistics: str, weights: SourceWeights, colours: Dataset) -> None:
    """Training images are augmented as drawn; test images go through Resize and CenterCrop; normalized as released."""
    recipe = {"normalization": "as-released"}
    trial = Finetuning(finetune_spec(recipe, dataset="cifar10", source=source, epochs=1), weights, colours, CPU)
    released = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32), transforms.ToTensor()])
    normalize = transforms.Normalize(*STATISTICS[statistics])
    wanted = []
    for number, batch in enumerate(indices(trial)):
        draws = draw(len(batch), generator(7, Purpose.AUGMENTATION, 1, number))
        wanted.append(pil.all_augmented(colours.train.images_NCHW[batch], draws) / 255)
    wanted.append(torch.stack([released(pil.to_pil(image)) for image in colours.test.images_NCHW[:]]))
    for found_NCHW, wanted_NCHW in zip(first_convolution_s_inputs(trial), wanted, strict=True):
        assert torch.equal(found_NCHW, normalize(wanted_NCHW))


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("source", ["fmnist_natural", "fmnist_l2_eps1"])
def test_grey_images_as_published(source: str, size: int, weights: SourceWeights) -> None:
    """Single-channel images are augmented as drawn; the normalizer, the source's in both arms, makes three channels."""
    digits = packaged_dataset("digits", size)
    data = digits._replace(test=ImageSet(digits.test.images_NCHW[:20], digits.test.labels_N[:20]))
    recipe = RECIPES["as-published"].model_dump() | {"batch_size": 8}
    trial = Finetuning(finetune_spec(recipe, source=source, epochs=1), weights, data, CPU)
    normalize = InputNormalize(*(torch.tensor(numbers) for numbers in STATISTICS["fmnist"]))
    wanted = []
    for number, batch in enumerate(indices(trial)):
        draws = draw(len(batch), generator(7, Purpose.AUGMENTATION, 1, number))
        images = pil.digits(data.train.images_NCHW[batch])
        wanted.append([pil.augmented(image, draws, place) for place, image in enumerate(images)])
    wanted.append(pil.digits(data.test.images_NCHW[:]))
    for found_NCHW, images in zip(first_convolution_s_inputs(trial), wanted, strict=True):
        one_channel_N1HW = torch.stack([to_tensor(image) for image in images])
        assert one_channel_N1HW.shape[1] == 1
        assert torch.equal(found_NCHW, normalize(one_channel_N1HW))


@pytest.mark.parametrize("channels", [1, 3])
def test_draws_are_distributed_as_torchvision_s(channels: int, colours: Dataset) -> None:
    """One photograph 4,000 times through torchvision's own random transforms, and 4,000 times through DeltaSweep's."""
    count, image_CHW = 4000, colours.train.images_NCHW[3][:channels]
    theirs = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.25, 0.25, 0.25),
            transforms.RandomRotation(2),
            transforms.PILToTensor(),
        ]
    )
    image = pil.to_pil(image_CHW)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = torch.stack([theirs(image) for _ in range(count)]).double()
    found = augment(image_CHW.expand(count, -1, -1, -1), draw(count, torch.Generator().manual_seed(2))).double()
    statistics: list[Callable[[Tensor], Tensor]] = [
        lambda x: x,
        lambda x: x.square(),
        lambda x: (x - x.flatten(1).mean(1)[:, None, None, None]) ** 2,
    ]
    for statistic in statistics:
        one, other = statistic(expected), statistic(found)
        error = ((one.var(0) + other.var(0)) / count).sqrt().clamp(min=1e-9)
        assert float(((one.mean(0) - other.mean(0)) / error).abs().max()) < 5, "3,072 pixels, in standard errors"
