"""What training images do to the loss on test images, through the last layer (paper, Section 6 and A.9).

Shape suffixes: N training images, M test images, D pooled features, T the strongest training images of a test image.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from jobs.curvature import Examples, Solve, require_dense
from jobs.errors import Code, InvalidRequest
from jobs.evaluation import evaluating
from jobs.networks import Network
from jobs.progress import computing
from jobs.specs import MOST_DENSE


@torch.no_grad()
def pooled_features(network: Network, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What the FC layer takes of each image, N x D, and the labels N, in evaluation mode and in the batches' order."""
    with evaluating(network):
        found = [(network.trunk(images_NCHW, len(network.blocks)), labels_N) for images_NCHW, labels_N in batches]
    features, labels = zip(*found, strict=True)
    return torch.cat(features), torch.cat(labels)


class Block(NamedTuple):
    """A part of a matrix of training by test images: some training images and all test images, or the reverse."""

    train: slice
    test: slice
    values_NM: Tensor


def influences(
    train: Examples,
    test: Examples,
    solve: Solve,
    *,
    transposed: Solve | None = None,
    block: int = 64,
    start: int = 0,
) -> Iterator[Block]:
    """-g_train H^-1 g_test, equation (9), ``block`` images of the smaller set at a time.

    It is the rise of the loss on a test image for each unit of weight that a training image is given beside the mean
    over all: below 0 the training image helps. Leaving it out is a weight of -1/N. (The released code leaves the minus
    out and calls the largest the most influential: the same images.)

    H is symmetric, so only the smaller set's gradients are multiplied by its inverse (or by the transposed one).

    Args:
        solve: of the Hessian over the training images.
        transposed: the same for the transposed inverse, of one that is not symmetric; None: ``solve``.
        block: memory is K J + N K + M K numbers for each, a few times over; results agree to the solver's tolerance.
        start: images of the smaller set that are passed over.
    """
    if train.images <= test.images:
        of_train = transposed or solve
        for part in _parts(train.images, block, start):
            yield Block(part, slice(0, test.images), -test.inner_products(of_train(train.gradients(part))).T)
    else:
        for part in _parts(test.images, block, start):
            yield Block(slice(0, train.images), part, -train.inner_products(solve(test.gradients(part))))


def fisher_similarities(
    train: Examples, test: Examples, damping: float, *, block: int = 64, start: int = 0
) -> Iterator[Block]:
    """The Fisher kernel g_train F^-1 g_test (Jaakkola and Haussler 1998; Khanna et al. 2019): above 0 is alike.

    F is the empirical Fisher information, the mean of g g^T over the training images, plus damping. (With labels drawn
    from the model in place of the true ones F would be the Hessian, and the kernel minus the influence: A.9.) With all
    their gradients in G, G (G^T G / N + d)^-1 = (G G^T / N + d)^-1 G: only inner products are needed.

    Args:
        start: test images that are passed over.

    Raises:
        InvalidRequest: for more than ``MOST_DENSE`` training images, or a damping that is not above 0.
    """
    require_dense(train.images, MOST_DENSE, "the Fisher kernel's matrix of training images", "use influences")
    if not damping > 0:
        raise InvalidRequest(
            Code.WRONG_VALUE, f"the Fisher kernel needs a damping above 0; it is {damping}", key="damping"
        )
    with computing():
        gram_NN = _gradient_products(train, train, slice(None)) / train.images
        gram_NN.diagonal().add_(damping)
        factor_NN = torch.linalg.cholesky(gram_NN)
    for part in _parts(test.images, block, start):
        products_NM = _gradient_products(train, test, part)
        yield Block(slice(0, train.images), part, torch.cholesky_solve(products_NM, factor_NN))


def _gradient_products(a: Examples, b: Examples, part: slice) -> Tensor:
    return (a.residuals_NK @ b.residuals_NK[part].T) * (a.inputs_NJ @ b.inputs_NJ[part].T)


def _parts(images: int, block: int, start: int) -> Iterator[slice]:
    return (slice(first, min(first + block, images)) for first in range(start, images, block))


class Strongest(NamedTuple):
    """The training images that stand first for each test image, the first one first."""

    images_MT: Tensor
    """Positions in the training set (int64)."""
    values_MT: Tensor


def strongest(
    blocks: Iterable[Block],
    train_images: int,
    test_images: int,
    count: int,
    *,
    largest: bool,
    before: Strongest | None = None,
) -> Strongest:
    """The ``count`` training images of smallest or largest value for each test image.

    Of equal values that of the lower position comes first.

    Args:
        largest: False for influences, where the smallest helps most; True for similarities.
        before: what was found in earlier blocks of the same matrix.

    Raises:
        InvalidRequest: when there are fewer training images.
    """
    if not 1 <= count <= train_images:
        raise InvalidRequest(
            Code.IMPOSSIBLE_TRIAL,
            f"of {train_images} training images 1 to {train_images} can be kept; asked for {count}",
            key="top",
        )
    if before is None:
        values_MT = torch.full((test_images, count), -torch.inf if largest else torch.inf, dtype=torch.float64)
        images_MT = torch.full((test_images, count), -1)
    else:
        images_MT, values_MT = (tensor.clone() for tensor in before)
    for block in blocks:
        found_MN = block.values_NM.T.cpu()
        positions_MN = torch.arange(block.train.start, block.train.stop).expand_as(found_MN)
        values = torch.cat([values_MT[block.test], found_MN], 1)
        images = torch.cat([images_MT[block.test], positions_MN], 1)
        first_MT = values.argsort(dim=1, descending=largest, stable=True)[:, :count]
        values_MT[block.test], images_MT[block.test] = values.gather(1, first_MT), images.gather(1, first_MT)
    return Strongest(images_MT, values_MT)


class Groups(NamedTuple):
    """The images of one side of a matrix, sorted by label and cut into groups, none of which has two labels."""

    of_N: Tensor
    """The group of each image, from 0."""
    labels_G: Tensor
    firsts_G: Tensor
    """The first image of each group; images of one label keep their order."""

    @property
    def sizes(self) -> Tensor:
        """Images in each group, G."""
        return self.of_N.bincount(minlength=len(self.labels_G))


def label_groups(labels_N: Tensor, most: int) -> Groups:
    """As many groups for each label, of as equal sizes, as the images allow; together at most ``most``, if there are
    not more labels.
    """
    order_N, of_N = labels_N.argsort(stable=True), torch.empty_like(labels_N)
    counts = [count for count in labels_N.bincount().tolist() if count]
    groups = 0
    for images_n in torch.split(order_N, counts):
        pieces = min(len(images_n), max(1, most // len(counts)))
        of_N[images_n] = groups + torch.arange(len(images_n)) * pieces // len(images_n)
        groups += pieces
    firsts_G = order_N[torch.searchsorted(of_N[order_N], torch.arange(groups))]
    return Groups(of_N, labels_N[firsts_G], firsts_G)


class GroupSums:
    """The matrix as Figure 7(a) shows it, both sides sorted by label, summed over groups while its blocks pass.

    What is kept is no larger than the picture, and the same to the last bit wherever the blocks are interrupted.
    """

    def __init__(self, train: Groups, test: Groups) -> None:
        self.train, self.test = train, test
        self.sums_HG = torch.zeros(len(test.labels_G), len(train.labels_G), dtype=torch.float64)
        """Rows are groups of test images, columns of training images."""
        self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, block: Block) -> None:
        values_MN = block.values_NM.T.cpu()
        by_test_HN = values_MN.new_zeros(len(self.sums_HG), values_MN.shape[1])
        by_test_HN.index_add_(0, self.test.of_N[block.test], values_MN)
        self.sums_HG.index_add_(1, self.train.of_N[block.train], by_test_HN)
        self.squares += values_MN.square().sum()

    @property
    def norm(self) -> float:
        """The Frobenius norm of the whole matrix."""
        return float(self.squares.sqrt())

    @property
    def means(self) -> Tensor:
        """The mean value of each group of test images with each group of training images, H x G."""
        return self.sums_HG / (self.test.sizes[:, None] * self.train.sizes)
