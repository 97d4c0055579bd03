"""Influence of training images on the loss of test images, through the last layer (paper, Section 6 and A.9).

Shape suffixes: N training images, M test images, D pooled features, T top training images per test image, G and H
groups of training and test images.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from jobs.errors import Code, InvalidRequest
from jobs.execution.metrics import evaluating
from jobs.kinds.influence.hessian import Examples, Solve, require_dense
from jobs.kinds.influence.spec import MOST_DENSE
from jobs.networks.network import Network
from jobs.system.progress import computing


@torch.no_grad()
def pooled_features(network: Network, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the FC layer's inputs N x D and the labels N, in evaluation mode and in the order of the batches."""
    with evaluating(network):
        blocks = len(network.blocks)
        parts = [(network.trunk(images_NCHW, blocks).float(), labels_N) for images_NCHW, labels_N in batches]
    features, labels = zip(*parts, strict=True)
    return torch.cat(features), torch.cat(labels)


class Block(NamedTuple):
    """A block of the training-by-test matrix: some training images and all test images, or the reverse."""

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
    """Yield -g_train H^-1 g_test, equation (9), for ``block`` images of the smaller set at a time.

    This is the increase of a test image's loss per unit of weight given to a training image in addition to the mean
    over all of them; below 0, the training image helps. Leaving an image out corresponds to a weight of -1/N. (The
    released code omits the minus sign and calls the largest values the most influential: the same images.)

    H is symmetric, so only the gradients of the smaller set are multiplied by its inverse (or the transposed one).

    Args:
        solve: multiplies by the inverse of the Hessian over the training images.
        transposed: the same for the transposed inverse, if the inverse is not symmetric; None: ``solve``.
        block: number of images per block; each image takes a few times K J + N K + M K numbers of memory. Results for
            different values agree within the solver's tolerance.
        start: number of images of the smaller set to skip.
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
    """Yield the Fisher kernel g_train F^-1 g_test (Jaakkola and Haussler 1998; Khanna et al. 2019); above 0: similar.

    F is the empirical Fisher information, the mean of g g^T over the training images, plus damping. (With labels drawn
    from the model instead of the true ones, F would be the Hessian, and the kernel minus the influence: A.9.) With all
    gradients as the columns of G, (G G^T / N + d)^-1 G = G (G^T G / N + d)^-1: only inner products are needed.

    Args:
        start: number of test images to skip.

    Raises:
        InvalidRequest: for more than ``MOST_DENSE`` training images, or a damping that is not positive.
    """
    require_dense(train.images, MOST_DENSE, "the Fisher kernel's matrix of training images", "use influences")
    if not damping > 0:
        raise InvalidRequest(
            Code.WRONG_VALUE, f"expected a damping above 0 for the Fisher kernel; got {damping}", key="damping"
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
    """The top training images for each test image, best first."""

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
    """Return the ``count`` training images with the smallest or largest values for each test image.

    Equal values are ordered by position.

    Args:
        largest: False for influences, where the smallest value helps most; True for similarities.
        before: result of earlier blocks of the same matrix.

    Raises:
        InvalidRequest: if there are fewer than ``count`` training images.
    """
    if not 1 <= count <= train_images:
        raise InvalidRequest(
            Code.IMPOSSIBLE_TRIAL,
            f"expected 1 to {train_images} of the {train_images} training images to be kept; got {count}",
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
    """Images of one side of a matrix, sorted by label and divided into groups of one label each."""

    of_N: Tensor
    """Group of each image, from 0."""
    labels_G: Tensor
    firsts_G: Tensor
    """First image of each group; images of one label keep their order."""

    @property
    def sizes(self) -> Tensor:
        """Number of images in each group, G."""
        return self.of_N.bincount(minlength=len(self.labels_G))


def label_groups(labels_N: Tensor, most: int) -> Groups:
    """Divide images into groups of one label each: equally many per label, and of equal sizes, as far as possible.

    There are at most ``most`` groups, unless there are more labels.
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
    """The matrix of Figure 7(a), both sides sorted by label, summed over groups block by block.

    Memory is that of the reduced matrix. The result is the same bit for bit wherever the blocks are interrupted.
    """

    def __init__(self, train: Groups, test: Groups) -> None:
        self.train, self.test = train, test
        self.sums_HG = torch.zeros(len(test.labels_G), len(train.labels_G), dtype=torch.float64)
        """Rows are groups of test images, columns groups of training images."""
        self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, block: Block) -> None:
        values_MN = block.values_NM.T.cpu()
        by_test_HN = values_MN.new_zeros(len(self.sums_HG), values_MN.shape[1])
        by_test_HN.index_add_(0, self.test.of_N[block.test], values_MN)
        self.sums_HG.index_add_(1, self.train.of_N[block.train], by_test_HN)
        self.squares += values_MN.square().sum()

    @property
    def norm(self) -> float:
        """Frobenius norm of the whole matrix."""
        return float(self.squares.sqrt())

    @property
    def means(self) -> Tensor:
        """Mean value of each group of test images with each group of training images, H x G."""
        return self.sums_HG / (self.test.sizes[:, None] * self.train.sizes)
