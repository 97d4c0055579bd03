"""What an influence trial takes that holds a matrix whole: its rows, bytes and operations. No torch.

That of the pseudo-inverse is the Hessian of the last layer, labels times its inputs; that of the Fisher kernel has a
row for each training image. Conjugate gradients hold none.
"""

from typing import NamedTuple

from jobs import registry
from jobs.errors import Code, StorageFailure
from jobs.memory import Memory
from jobs.registry.costs import last_layer_inputs
from jobs.specs import ALL, InfluenceSpec, Measure

_FLOAT64 = 8
"""Bytes of a number."""

_HELD = {"pseudo-inverse": 4, "fisher": 3}
"""Matrices of that many rows that are there at once. Pseudo-inverse: the Hessian, its eigenvectors and twice that of
LAPACK's own; afterwards the eigenvectors scaled, and the inverse. Fisher: two products and theirs.
"""


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
    most to its eigenvectors, 2 n^3 to those of the matrix and 2 n^3 to the inverse; 1/3 n^3 to a Cholesky factor.
    """
    rows = dense_rows(spec.source, spec.dataset, spec.network.images, spec.measure)
    if not rows:
        return None
    card = registry.dataset(spec.dataset)
    train = dense_rows(spec.source, spec.dataset, spec.network.images, "fisher")
    if spec.measure == "pseudo-inverse":
        operations = 20 / 3 * rows**3 + (4 * train + 2 * min(train, card.test)) * rows**2
    else:
        width = last_layer_inputs(registry.source(spec.source).architecture) + card.labels
        operations = rows**3 / 3 + 2 * width * rows**2 + 2 * (rows + width) * rows * card.test
    return Dense(rows, _HELD[spec.measure] * _FLOAT64 * rows**2, operations)


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
