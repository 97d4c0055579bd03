"""Influence at the paper's size (Section 6): 3,200 training and 10,000 test images, 10 labels, 2,048 features.

Computes the whole matrix from features: preconditioner, conjugate gradients, the ten strongest influences on each test
image, and the matrix by label. The features are synthetic with the shape of a ResNet-50's: rectified normal numbers
around a mean per label, with a last layer (with bias) fitted to them. They determine the number of iterations, which is
printed. The Fisher kernel of the same images is timed as well. The forward passes through the network are not included.

With ``--pseudo-inverse``, computes the paper's estimator at its size (20,490 rows) instead: half an hour to an hour of
a core and 14 GB with ``eigh``. The Penrose equations are checked on random vectors.

Usage: python -m benchmarks.influence [--threads 1] [--train 3200] [--test 10000] [--features 2048]
           [--pseudo-inverse eigh]
"""

import argparse
import math
import resource
import time
from collections.abc import Iterator
from typing import get_args

import torch
from torch import Tensor, nn

from benchmarks.rows import Row, at_most, beside, report
from jobs.kinds.influence.hessian import ConjugateGradients, Examples, Hessian, pseudo_inverse
from jobs.kinds.influence.influence_functions import (
    Block,
    GroupSums,
    fisher_similarities,
    influences,
    label_groups,
    strongest,
)
from jobs.kinds.influence.spec import MATRIX_GROUPS, Decomposition
from jobs.kinds.influence.trial import BLOCK

LABELS, FEATURES = 10, 2048
DAMPING = 5e-4
SECONDS, GIGABYTES = 600.0, 3.0  # excludes a matrix of 20,490 x 20,490 numbers


class CountedHessian(Hessian):
    """Counts its products: one per iteration and block."""

    products = 0

    def product(self, vectors_BKJ: Tensor) -> Tensor:
        self.products += 1
        return super().product(vectors_BKJ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", type=int, default=3200)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=FEATURES)
    parser.add_argument("--pseudo-inverse", choices=get_args(Decomposition))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    if given.pseudo_inverse is not None:
        report(_pseudo_inverse_rows(given.train, given.features, given.threads, given.pseudo_inverse))
    else:
        report(_rows(given.train, given.test, given.features, given.threads))


def _pseudo_inverse_rows(images: int, features: int, threads: int, decomposition: Decomposition) -> list[Row]:
    """Time the pseudo-inverse of the undamped Hessian, with singular values cut at 1e-10 of the largest."""
    rng = torch.Generator().manual_seed(0)
    train = _made(images, torch.randn(LABELS, features, generator=rng), rng)
    hessian = Hessian(Examples.of(_fitted(*train), *train), damping=0.0)
    name = f"pseudo-inverse of {LABELS * (features + 1):,} rows by {decomposition}, {threads} threads"
    started, worked = time.perf_counter(), time.process_time()
    solve = pseudo_inverse(hessian, relative=1e-10, decomposition=decomposition)
    seconds, work = time.perf_counter() - started, time.process_time() - worked
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    vectors_BKJ = torch.randn(4, *hessian.shape, generator=rng, dtype=hessian.train.inputs_NJ.dtype)
    products_BKJ = hessian.product(vectors_BKJ)
    solved_BKJ = solve(products_BKJ)
    errors = {
        "H P H v = H v": _relative_error(hessian.product(solved_BKJ), products_BKJ),
        "P H P v = P v": _relative_error(solve(hessian.product(solve(vectors_BKJ))), solve(vectors_BKJ)),
    }
    return [
        beside(f"{name}: CPU seconds", [work]),
        beside(f"{name}: seconds", [seconds]),
        beside(f"{name}: peak GB of the process", [gigabytes]),
        *(beside(f"{name}, {equation}: correct digits", [-math.log10(error)]) for equation, error in errors.items()),
    ]


def _relative_error(found_BKJ: Tensor, expected_BKJ: Tensor) -> float:
    return float((found_BKJ - expected_BKJ).norm() / expected_BKJ.norm())


def _rows(train_images: int, test_images: int, features: int, threads: int) -> list[Row]:
    rng = torch.Generator().manual_seed(0)
    means_KD = torch.randn(LABELS, features, generator=rng)
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
    print(f"{iterations:.1f} iterations of conjugate gradients per block")
    right = float((shown.probabilities_NK.argmax(1) == test[1]).float().mean())
    print(f"the last layer classifies {right:.1%} of the synthetic test images correctly")
    started = time.perf_counter()
    _consume(fisher_similarities(seen, shown, DAMPING, block=BLOCK), train[1], test[1], largest=True)
    return [
        at_most(f"{name}: CPU seconds", [work], SECONDS),
        beside(f"{name}: seconds", [seconds]),
        at_most(f"{name}: peak GB of the process", [gigabytes], GIGABYTES),
        beside(f"{name}, Fisher kernel: seconds", [time.perf_counter() - started]),
    ]


def _made(images: int, means_KD: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return features and labels. The noise has four times the standard deviation of the means."""
    labels_N = torch.randint(LABELS, (images,), generator=rng)
    noise_ND = 4 * torch.randn(images, means_KD.shape[1], generator=rng)
    return (means_KD[labels_N] + noise_ND).clamp(min=0) / 4, labels_N


def _fitted(features_ND: Tensor, labels_N: Tensor) -> nn.Linear:
    """Return a last layer after 100 steps on all images, with the damping as weight decay."""
    fc = nn.Linear(features_ND.shape[1], LABELS)
    nn.init.zeros_(fc.weight)
    nn.init.zeros_(fc.bias)
    steps = torch.optim.SGD(fc.parameters(), lr=0.01, momentum=0.9, weight_decay=DAMPING)
    for _ in range(100):
        steps.zero_grad()
        nn.functional.cross_entropy(fc(features_ND), labels_N).backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        steps.step()
    return fc


def _consume(blocks: Iterator[Block], train_labels_N: Tensor, test_labels_M: Tensor, *, largest: bool) -> None:
    """Process each block as a trial does."""
    picture = GroupSums(label_groups(train_labels_N, MATRIX_GROUPS), label_groups(test_labels_M, MATRIX_GROUPS))
    top = strongest([], len(train_labels_N), len(test_labels_M), 10, largest=largest)
    for block in blocks:
        picture.add(block)
        top = strongest([block], len(train_labels_N), len(test_labels_M), 10, largest=largest, before=top)
    assert picture.norm > 0


if __name__ == "__main__":
    main()
