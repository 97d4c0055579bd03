"""Influence at the paper's size (Section 6): 3,200 training by 10,000 test images, 10 labels, 2,048 features, a bias.

The whole matrix, from features on: preconditioner, conjugate gradients, the strongest ten of each test image, and the
picture by label. The features are made, of the shape of a ResNet-50's: rectified normal numbers around a mean for each
label, under a last layer that is fitted to them. How many iterations it takes depends on them; the number is printed.
The Fisher kernel of the same images is timed beside it. Not in it: images through the network.

Usage: python -m benchmarks.influence [--threads 1] [--train 3200] [--test 10000]
"""

import argparse
import math
import resource
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.rows import Row, at_most, beside, report
from jobs.curvature import ConjugateGradients, Examples, Hessian
from jobs.influence import Block, GroupSums, fisher_similarities, influences, label_groups, strongest
from jobs.influence_trial import BLOCK
from jobs.specs import MATRIX_GROUPS

LABELS, FEATURES = 10, 2048
DAMPING = 5e-4
SECONDS, GIGABYTES = 600.0, 3.0  # minutes, and no matrix of 20,490 x 20,490 numbers


class CountedHessian(Hessian):
    """Counts its products: one an iteration and block."""

    products = 0

    def product(self, vectors_BKJ: Tensor) -> Tensor:
        self.products += 1
        return super().product(vectors_BKJ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", type=int, default=3200)
    parser.add_argument("--test", type=int, default=10_000)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    report(_rows(given.train, given.test, given.threads))


def _rows(train_images: int, test_images: int, threads: int) -> list[Row]:
    rng = torch.Generator().manual_seed(0)
    means_KD = torch.randn(LABELS, FEATURES, generator=rng)
    train, test = (_made(images, means_KD, rng) for images in (train_images, test_images))
    fc = _fitted(*train)
    name = f"influence of {train_images:,} x {test_images:,} images, {threads} threads"
    started, worked = time.perf_counter(), time.process_time()
    seen, shown = Examples.of(fc, *train), Examples.of(fc, *test)
    hessian = CountedHessian(seen, DAMPING)
    blocks = influences(seen, shown, ConjugateGradients(hessian), block=BLOCK)
    _consume(blocks, train[1], test[1], largest=False)
    seconds, work = time.perf_counter() - started, time.process_time() - worked
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    iterations = hessian.products / math.ceil(min(train_images, test_images) / BLOCK)
    print(f"{iterations:.1f} iterations of conjugate gradients a block")
    right = float((shown.probabilities_NK.argmax(1) == test[1]).float().mean())
    print(f"the last layer has {right:.1%} of the made test images right")
    started = time.perf_counter()
    _consume(fisher_similarities(seen, shown, DAMPING, block=BLOCK), train[1], test[1], largest=True)
    return [
        at_most(f"{name}: processor seconds", [work], SECONDS),
        beside(f"{name}: seconds", [seconds]),
        at_most(f"{name}: peak GB of the process", [gigabytes], GIGABYTES),
        beside(f"{name}, Fisher kernel: seconds", [time.perf_counter() - started]),
    ]


def _made(images: int, means_KD: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Features and labels; the noise is four times the spread of the means."""
    labels_N = torch.randint(LABELS, (images,), generator=rng)
    noise_ND = 4 * torch.randn(images, FEATURES, generator=rng)
    return (means_KD[labels_N] + noise_ND).clamp(min=0) / 4, labels_N


def _fitted(features_ND: Tensor, labels_N: Tensor) -> nn.Linear:
    """A last layer after 100 steps on all images, with the weight decay that is the damping."""
    fc = nn.Linear(FEATURES, LABELS)
    nn.init.zeros_(fc.weight)
    nn.init.zeros_(fc.bias)
    steps = torch.optim.SGD(fc.parameters(), lr=0.01, momentum=0.9, weight_decay=DAMPING)
    for _ in range(100):
        steps.zero_grad()
        nn.functional.cross_entropy(fc(features_ND), labels_N).backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        steps.step()
    return fc


def _consume(blocks: Iterator[Block], train_labels_N: Tensor, test_labels_M: Tensor, *, largest: bool) -> None:
    """What a trial keeps of each block."""
    picture = GroupSums(label_groups(train_labels_N, MATRIX_GROUPS), label_groups(test_labels_M, MATRIX_GROUPS))
    top = strongest([], len(train_labels_N), len(test_labels_M), 10, largest=largest)
    for block in blocks:
        picture.add(block)
        top = strongest([block], len(train_labels_N), len(test_labels_M), 10, largest=largest, before=top)
    assert picture.norm > 0


if __name__ == "__main__":
    main()
