"""Trials that benchmarks run: of ResNet-50 with random weights and made images, without files, network or Ray."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset, ImageSet
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.models.weights import SourceWeights
from jobs.networks.builders import build
from jobs.specs.recipes import Recipe

LABELS = 10


class Work(NamedTuple):
    """Trials that differ only in blocks, with all their inputs in memory."""

    specs: Sequence[FinetuneSpec]
    weights: SourceWeights
    data: Dataset


def resnet50(
    trained: int,
    evaluated: int,
    choices: Mapping[str, object] | None = None,
    *,
    depths: Sequence[int] = (0, 1, 3, 9),
    epochs: int = 1,
) -> Work:
    """ResNet-50 at 224 pixels: epochs of one batch; the test images are evaluated after the first and the last.

    Args:
        trained, evaluated: numbers of images, and the sizes of batches unless ``choices`` say others.
        choices: of the recipe, other than its defaults.
        depths: fine-tuned blocks of the trials.
    """
    data = Dataset("mnist", _images(trained), _images(evaluated), "random bytes")
    recipe = Recipe.model_validate({"batch_size": trained, "evaluation_batch_size": evaluated, **(choices or {})})
    specs = [spec_of(blocks, "natural", "mnist", images=trained, epochs=epochs, recipe=recipe) for blocks in depths]
    torch.manual_seed(trained)
    return Work(
        specs, SourceWeights(build(PACKAGED.architecture("resnet50"), 1000).model.state_dict(), "random weights"), data
    )


def spec_of(blocks: int, source: str, dataset: str, *, images: int, epochs: int, recipe: Recipe) -> FinetuneSpec:
    return FinetuneSpec(
        source=source,
        dataset=dataset,
        blocks=blocks,
        images=images,
        seed=20_000_000,
        epochs=epochs,
        evaluate_every=5,
        recipe=recipe,
    )


def _images(count: int) -> ImageSet:
    rng = torch.Generator().manual_seed(count)
    images_NCHW = torch.randint(256, (count, 1, 224, 224), dtype=torch.uint8, generator=rng)
    return ImageSet(images_NCHW, torch.arange(count) % LABELS)
