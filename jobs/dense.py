"""What an influence trial takes that holds a matrix whole: its rows, bytes and operations. No torch.

That of the pseudo-inverse is the Hessian of the last layer, labels times its inputs; that of the Fisher kernel has a
row for each training image. Conjugate gradients hold none.
"""

from collections.abc import Mapping
from typing import NamedTuple

from jobs import registry
from jobs.errors import Code, StorageFailure
from jobs.memory import Memory
from jobs.registry.costs import last_layer_inputs
from jobs.specs import ALL, Decomposition, InfluenceSpec, Measure

_FLOAT64 = 8
"""Bytes of a number."""

_HELD_TO_INVERT: Mapping[Decomposition, int] = {"eigh": 4, "svd": 7}
"""Matrices of that many rows that are there at once. eigh: the Hessian, its eigenvectors and twice that of LAPACK's;
afterwards the eigenvectors scaled, and the inverse. svd: the Hessian, a copy that is worked in, the singular vectors of
both sides and three times that of LAPACK's.
"""

_TO_INVERT: Mapping[Decomposition, float] = {"eigh": 20 / 3, "svd": 34 / 3}
"""Operations, as a factor of the rows cubed."""

_HELD_BY_KERNEL = 3
"""Fisher: two products and theirs."""


class Dense(NamedTuple):
    """What the matrix of one trial takes."""

    rows: int
    bytes: int
    """The most that is held at once, what all trials hold aside."""
    operations: float
    """In float64: to make it, to invert it, and to apply the inverse to the images that it is applied to."""


def dense_rows(source: str, dataset: str, images: int, measure: Measure) -> int:
    """Rows of the matrix that is held whole; 0: none is.

    Args:
        images: size of the training subset; -1: the whole set.
    """
    card = registry.dataset(dataset)
    match measure:
        case "pseudo-inverse":
            return card.labels * last_layer_inputs(registry.source(source).architecture)
        case "fisher":
            return card.train if images == ALL else images
        case "influence":
            return 0


def dense(spec: InfluenceSpec) -> Dense | None:
    """What the matrix of a trial takes; None for one that holds none.

    Operations are those of textbooks, a multiply-add being two: of n rows, 4/3 n^3 to a tridiagonal matrix, 4/3 n^3 at
    most to its eigenvectors, 2 n^3 to those of the matrix and 2 n^3 to the inverse; to a bidiagonal matrix 8/3 n^3, and
    to singular vectors of two sides twice what eigenvectors take; 1/3 n^3 to a Cholesky factor.
    """
    rows = dense_rows(spec.source, spec.dataset, spec.network.images, spec.measure)
    if not rows:
        return None
    card = registry.dataset(spec.dataset)
    train = dense_rows(spec.source, spec.dataset, spec.network.images, "fisher")
    if spec.measure == "pseudo-inverse":
        held = _HELD_TO_INVERT[spec.decomposition]
        operations = _TO_INVERT[spec.decomposition] * rows**3 + (4 * train + 2 * min(train, card.test)) * rows**2
    else:
        held = _HELD_BY_KERNEL
        width = last_layer_inputs(registry.source(spec.source).architecture) + card.labels
        operations = rows**3 / 3 + 2 * width * rows**2 + 2 * (rows + width) * rows * card.test
    return Dense(rows, held * _FLOAT64 * rows**2, operations)


def require_memory(spec: InfluenceSpec, there: Memory) -> None:
    """Refuse to begin a trial whose matrix this machine cannot hold.

    Args:
        there: of the device that it would run on.

    Raises:
        StorageFailure: with the bytes that it needs and those that are free; another machine may have more.
    """
    needed = dense(spec)
    if needed is not None and needed.bytes > there.free:
        raise StorageFailure(
            Code.OUT_OF_MEMORY,
            f"{spec.trial_id} holds a matrix of {needed.rows:,} rows whole: expected {needed.bytes / 1e9:.1f} GB of "
            f"free memory; got {there.free / 1e9:.1f} GB, of {there.total / 1e9:.1f} GB that this machine has. Fix: "
            "end other programs, let fewer trials share a machine (resources), take a machine with more memory, or the "
            "measure influence, which holds no such matrix",
            key="measure",
        )
