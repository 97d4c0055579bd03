"""The packaged architectures with small images, drawn weights and drawn data, for trials that take seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.catalog import PACKAGED, Cards, Catalog
from jobs.catalog.source_card import SourceCard
from jobs.data.datasets import Dataset, ImageSet
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.networks.builders import build
from tests.jobs.support import CPU, finetune_spec

ALL = tuple(PACKAGED.architectures)
FIXED_SIZE = ("timm.deit_small_patch16_224", "timm.vit_small_patch16_224", "vgg16_bn", "vit_b_16")
"""Networks that accept images of one size only."""
SMALLER = 64
LABELS = 3


def size_of(name: str) -> int:
    """Return a small image size that the network accepts."""
    size = PACKAGED.architecture(name).image_size
    return size if name in FIXED_SIZE else min(size, SMALLER)


@dataclass(frozen=True)
class Shrunk(Catalog):
    """The packaged architectures with smaller images, and a source of each, by the architecture's name."""

    @property
    def architectures(self) -> Mapping[str, Architecture]:
        return _shrunk()


@cache
def _shrunk() -> Mapping[str, Architecture]:
    return {name: PACKAGED.architecture(name).model_copy(update={"image_size": size_of(name)}) for name in ALL}


@cache
def catalog() -> Shrunk:
    sources = {
        name: SourceCard.model_validate(
            {
                "name": name,
                "architecture": name,
                "trained_on": "fmnist",
                "constraint": "none",
                "epsilon": 0,
                "mean": (0.5, 0.5, 0.5),
                "std": (0.25, 0.25, 0.25),
                "release": {"file": "made.safetensors", "format": "safetensors", "urls": []},
            }
        )
        for name in ALL
    }
    return Shrunk(Cards.model_construct(sources=sources, datasets={}))


@lru_cache(maxsize=1)
def weights_of(name: str) -> SourceWeights:
    """Return weights drawn from a seed, with running statistics that are not the initial ones."""
    rng = torch.Generator().manual_seed(1)
    parts = build(PACKAGED.architecture(name), 5, rng)
    for path, buffer in parts.model.named_buffers():
        if path.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=rng) * 0.2 + (0.9 if path.endswith("var") else 0))
    return SourceWeights(dict(parts.model.state_dict()), f"made of {name}")


def few_images(name: str, train: int, test: int) -> Dataset:
    rng = torch.Generator().manual_seed(2)

    def drawn(count: int) -> ImageSet:
        images_NCHW = torch.randint(256, (count, 3, size_of(name), size_of(name)), generator=rng, dtype=torch.uint8)
        return ImageSet(images_NCHW, torch.arange(count) % 2)

    return Dataset("digits", drawn(train), drawn(test), "drawn images")


def spec_of(name: str, blocks: int, recipe: dict[str, Any] | None = None, **changes: Any) -> FinetuneSpec:
    """Return a trial of two epochs with two batches each, of one image in networks that need large ones."""
    batch = 1 if name in FIXED_SIZE else 2
    values = {"source": name, "images": 2 * batch, "epochs": 2, "blocks": blocks, **changes}
    return finetune_spec({"batch_size": batch, "evaluation_batch_size": batch, **(recipe or {})}, **values)


def opened(name: str, spec: FinetuneSpec) -> Finetuning:
    return Finetuning(spec, weights_of(name), few_images(name, 8, 2), CPU, catalog())
