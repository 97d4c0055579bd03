"""Cost of augmentation: DeltaSweep in batches of 128 vs torchvision's transforms one image at a time.

All run with one thread on the CPU, from bytes to bytes, random draws included. ``v2`` works on tensors. ``PIL`` is what
the paper's released code used, including the conversions from tensor to PIL image and back. DeltaSweep's output equals
PIL's, byte for byte.

Usage: python -m benchmarks.augmentation [REPETITIONS]
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2

from benchmarks.rows import Row, at_most, beside, report
from jobs.data.augmentation import augment, draw

BATCH = 128
TARGET = 1.0  # batched augmentation is only worth it if it is not slower than torchvision's v2 on tensors


def main(repetitions: int) -> None:
    torch.set_num_threads(1)
    report([row for size in (32, 224) for row in _rows(size, repetitions)])


def _rows(size: int, repetitions: int) -> list[Row]:
    rng = torch.Generator().manual_seed(0)
    images_NCHW = torch.randint(256, (BATCH, 3, size, size), dtype=torch.uint8, generator=rng)
    on_tensors = v2.Compose(_released(v2, size))
    on_pil = transforms.Compose([transforms.ToPILImage(), *_released(transforms, size), transforms.PILToTensor()])
    ways: list[Callable[[], Tensor]] = [
        lambda: augment(images_NCHW, draw(BATCH, rng)),
        lambda: torch.stack([on_tensors(image_CHW) for image_CHW in images_NCHW]),
        lambda: torch.stack([on_pil(image_CHW) for image_CHW in images_NCHW]),
    ]
    for way in ways:
        way()
    seconds = [[_seconds(way) for way in ways] for _ in range(repetitions)]
    return [
        at_most(
            f"augmentation at {size} px: ours / v2 per image", [ours / other for ours, other, _ in seconds], TARGET
        ),
        beside(f"augmentation at {size} px: ours / PIL per image", [ours / other for ours, _, other in seconds]),
    ]


def _released(kind: Any, size: int) -> list[Callable[[Tensor], Tensor]]:
    return [
        kind.RandomCrop(size, padding=4),
        kind.RandomHorizontalFlip(),
        kind.ColorJitter(0.25, 0.25, 0.25),
        kind.RandomRotation(2),
    ]


def _seconds(way: Callable[[], Tensor]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
