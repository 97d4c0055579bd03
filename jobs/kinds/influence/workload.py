"""Cost of influence trials with a dense matrix: its rows, bytes and FLOPs. No torch.

For the pseudo-inverse, the matrix is the last layer's Hessian, with labels times inputs rows; for the Fisher kernel, it
has one row per training image. Conjugate gradients need no dense matrix.
"""

from collections.abc import Mapping

from jobs.catalog.catalog import Catalog
from jobs.catalog.costs import last_layer_inputs
from jobs.errors import Code, StorageFailure
from jobs.kind import RESULT_BYTES, Matrix, Workload
from jobs.kinds.finetune.spec import images_used
from jobs.kinds.influence.spec import MATRIX_GROUPS, Decomposition, InfluenceSpec
from jobs.system.memory import Memory

_FLOAT64 = 8
"""Bytes of a float64 number."""

_HELD_TO_INVERT: Mapping[Decomposition, int] = {"eigh": 4, "svd": 7}
"""Number of matrices of that size in memory at once. eigh: the Hessian, its eigenvectors and twice that size for
LAPACK; afterwards the scaled eigenvectors, and the inverse. svd: the Hessian, a working copy, the singular vectors of
both sides and three times that size for LAPACK.
"""

_TO_INVERT: Mapping[Decomposition, float] = {"eigh": 20 / 3, "svd": 34 / 3}
"""FLOPs divided by the cube of the number of rows."""

_ROW_BYTES, _TOP_BYTES = 10, 12
"""Bytes in a result per test image, and per training image kept for it: 797 test images with ten each gave files of 121
to 125 kB, without the matrix.
"""

_CELL_BYTES = 10
"""Bytes in a result per cell of the matrix: with 100 x 100 cells the same files had 223 kB."""

_HELD_BY_KERNEL = 3
"""Number of matrices in memory for fisher: two matrices of inner products, and their elementwise product."""


def matrix_rows(spec: InfluenceSpec, catalog: Catalog) -> int:
    """Return the rows of the dense matrix; 0 if there is none."""
    match spec.measure:
        case "pseudo-inverse":
            labels = catalog.dataset(spec.dataset).labels
            return labels * last_layer_inputs(catalog.architecture_of(spec.source))
        case "fisher":
            return images_used(spec.network, catalog)
        case "influence":
            return 0


def matrix(spec: InfluenceSpec, catalog: Catalog) -> Matrix | None:
    """Return the cost of a trial's dense matrix; None if there is none.

    FLOPs are textbook counts, two per multiply-add, for n rows: 4/3 n^3 for the tridiagonal form, at most 4/3 n^3 for
    its eigenvectors, 2 n^3 for those of the matrix and 2 n^3 for the inverse; 8/3 n^3 for the bidiagonal form, and for
    the singular vectors of both sides twice the count of eigenvectors; 1/3 n^3 for a Cholesky factor.
    """
    rows = matrix_rows(spec, catalog)
    if not rows:
        return None
    card = catalog.dataset(spec.dataset)
    train = images_used(spec.network, catalog)
    if spec.measure == "pseudo-inverse":
        held = _HELD_TO_INVERT[spec.decomposition]
        operations = _TO_INVERT[spec.decomposition] * rows**3 + (4 * train + 2 * min(train, card.test)) * rows**2
    else:
        held = _HELD_BY_KERNEL
        width = last_layer_inputs(catalog.architecture_of(spec.source)) + card.labels
        operations = rows**3 / 3 + 2 * width * rows**2 + 2 * (rows + width) * rows * card.test
    by = spec.choices["decomposition"]
    return Matrix(rows, held * _FLOAT64 * rows**2, operations, spec.measure, by)


def require_memory(spec: InfluenceSpec, catalog: Catalog, there: Memory) -> None:
    """Refuse to start a trial whose dense matrix does not fit into memory.

    Args:
        there: memory of the device that would run it, for this process.

    Raises:
        StorageFailure: stating the required and the free bytes; another machine may have more.
    """
    needed = matrix(spec, catalog)
    if needed is not None and needed.bytes > there.free:
        raise StorageFailure(
            Code.OUT_OF_MEMORY,
            f"{spec.trial_id} needs a dense matrix of {needed.rows:,} rows: expected {needed.bytes / 1e9:.1f} GB of "
            f"free memory; got {there.free / 1e9:.1f} GB, of {there.total / 1e9:.1f} GB that this process may use. "
            "Fix: end other programs, let fewer trials share a machine (resources), use a machine with more memory, or "
            "use the measure influence, which needs no dense matrix",
            key="measure",
        )


def workload(spec: InfluenceSpec, catalog: Catalog) -> Workload:
    """Count test and training images once; a dense matrix is counted separately, and conjugate gradients only named."""
    card, batch = catalog.dataset(spec.dataset), spec.recipe.evaluation_batch_size
    cells = max(MATRIX_GROUPS, card.labels) ** 2
    return Workload(
        architecture=catalog.architecture_of(spec.source),
        gradient_blocks=0,
        batch_size=batch,
        evaluation_batch_size=batch,
        images_evaluated=card.test + images_used(spec.network, catalog),
        result_bytes=RESULT_BYTES + card.test * (_ROW_BYTES + spec.top * _TOP_BYTES) + cells * _CELL_BYTES,
        matrix=matrix(spec, catalog),
        uncounted="conjugate gradients" if spec.measure == "influence" else "inverting matrices",
    )
