"""The last layer as a softmax regression: its gradients, its Hessian in closed form, and the Hessian's inverse.

The parameters are a matrix K x J: the FC layer's weights, with its bias as the last column. With probabilities p, the
one-hot label e_y and pooled features x with a 1 appended, the cross-entropy of an image has the gradient (p - e_y) x^T
and the Hessian (diag p - p p^T) (x) x x^T. All computations are in float64.

Shape suffixes: N images, K labels, D pooled features, J features including the 1, B right-hand sides, P = K J
parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from jobs.errors import Code, InvalidRequest
from jobs.kinds.influence.spec import MOST_DECOMPOSED, MOST_DENSE, Decomposition
from jobs.system.progress import computing, progressed

Solve = Callable[[Tensor], Tensor]
"""Maps right-hand sides B x K x J to their products with a Hessian's inverse, B x K x J."""


class Examples(NamedTuple):
    """Images as inputs of the last layer; gradients are stored as their factors ``residuals`` and ``inputs``."""

    inputs_NJ: Tensor
    probabilities_NK: Tensor
    residuals_NK: Tensor
    """p - e_y."""

    @classmethod
    def of(cls, fc: nn.Linear, features_ND: Tensor, labels_N: Tensor) -> Self:
        """Create examples from pooled features and labels, given the FC layer.

        Raises:
            InvalidRequest: if a logit is not finite.
        """
        features_ND = features_ND.double()
        logits_NK = features_ND @ fc.weight.detach().double().T + fc.bias.detach().double()
        if not logits_NK.isfinite().all():
            raise InvalidRequest(
                Code.IMPOSSIBLE_TRIAL,
                "expected finite logits for influence; the network has others, because it has diverged. "
                "Fix: train it with a smaller learning_rate",
                key="learning_rate",
            )
        inputs_NJ = torch.cat([features_ND, features_ND.new_ones(len(features_ND), 1)], 1)
        probabilities_NK = logits_NK.softmax(1)
        return cls(inputs_NJ, probabilities_NK, probabilities_NK - nn.functional.one_hot(labels_N, logits_NK.shape[1]))

    @property
    def images(self) -> int:
        return len(self.inputs_NJ)

    def gradients(self, part: slice) -> Tensor:
        """Return the gradients of some images' losses, B x K x J."""
        return self.residuals_NK[part, :, None] * self.inputs_NJ[part, None, :]

    def inner_products(self, vectors_BKJ: Tensor) -> Tensor:
        """Return the inner products of every image's gradient with every vector, N x B, without forming gradients."""
        along_NBK = (self.inputs_NJ @ vectors_BKJ.flatten(0, 1).T).view(-1, *vectors_BKJ.shape[:2])
        return torch.einsum("nbk,nk->nb", along_NBK, self.residuals_NK)


class Hessian:
    """Hessian of the mean cross-entropy over training images (equation 7), plus damping times the identity.

    With SGD, the training loss included half the recipe's ``weight_decay`` times the squared norm of weights and bias.
    With ``damping`` equal to ``weight_decay``, this is the Hessian of the training loss. AdamW decays weights apart
    from the loss, so its ``weight_decay`` is no part of any Hessian, and a study must choose the damping itself. The
    paper's Hessian has no damping; it is a sum over images, which differs from the mean by a factor.
    """

    def __init__(self, train: Examples, damping: float) -> None:
        """Store the training images and the damping.

        Raises:
            InvalidRequest: if the damping is negative.
        """
        if not damping >= 0:
            raise InvalidRequest(Code.WRONG_VALUE, f"expected a damping of at least 0; got {damping}", key="damping")
        self.train = train
        self.damping = damping
        self.shape = train.probabilities_NK.shape[1], train.inputs_NJ.shape[1]

    def product(self, vectors_BKJ: Tensor) -> Tensor:
        """Return the Hessian times each vector, B x K x J, in 4 N J K B FLOPs, without forming the Hessian."""
        progressed()
        x_NJ, p_N1K = self.train.inputs_NJ, self.train.probabilities_NK[:, None]
        along_NBK = (x_NJ @ vectors_BKJ.flatten(0, 1).T).view(-1, *vectors_BKJ.shape[:2])
        curved_NBK = p_N1K * (along_NBK - (p_N1K * along_NBK).sum(2, keepdim=True))
        products_BKJ: Tensor = (curved_NBK.flatten(1).T @ x_NJ).view_as(vectors_BKJ) / self.train.images
        return products_BKJ + self.damping * vectors_BKJ

    def dense(self) -> Tensor:
        """Return the whole matrix, K J x K J.

        Raises:
            InvalidRequest: if it has more than ``MOST_DENSE`` rows.
        """
        labels, inputs = self.shape
        require_dense(labels * inputs, MOST_DENSE, "the Hessian", "use conjugate gradients")
        whole_PP = self.train.inputs_NJ.new_empty(labels * inputs, labels * inputs)
        for first, rows_BP in enumerate(torch.split(whole_PP, 64)):
            unit_BP = torch.zeros_like(rows_BP)
            unit_BP.diagonal(64 * first).fill_(1)
            rows_BP.copy_(self.product(unit_BP.view(-1, *self.shape)).flatten(1))
        return whole_PP

    def label_blocks(self) -> Tensor:
        """Return the diagonal blocks that belong to a single label, K x J x J."""
        x_NJ, p_NK = self.train.inputs_NJ, self.train.probabilities_NK
        weights_NK = p_NK * (1 - p_NK) / self.train.images
        blocks_KJJ = torch.stack([(x_NJ * weights_N[:, None]).T @ x_NJ for weights_N in weights_NK.T])
        blocks_KJJ.diagonal(dim1=1, dim2=2).add_(self.damping)
        return blocks_KJJ


def require_dense(rows: int, most: int, what: str, remedy: str) -> None:
    """Refuse a matrix that is too large to invert.

    Whether a machine has the memory is checked in ``jobs.kinds.influence.workload``.

    Raises:
        InvalidRequest: if it has more than ``most`` rows.
    """
    if rows > most:
        raise InvalidRequest(
            Code.IMPOSSIBLE_TRIAL,
            f"expected a dense matrix of at most {most} rows; got {rows}, for {what}. Fix: {remedy}",
            key="measure",
        )


@dataclass(frozen=True)
class PseudoInverse:
    """An inverse P x P as a ``Solve``.

    Computed from singular vectors, it is symmetric only up to rounding. It is not even approximately symmetric if the
    kept singular values include some that are only rounding errors.
    """

    columns_PP: Tensor
    """The transposed inverse, by which right-hand sides are multiplied as rows."""
    rows_PP: Tensor
    """The inverse, for products with its transpose. Computed from eigenvectors, both fields are the same matrix."""

    def __call__(self, right_BKJ: Tensor) -> Tensor:
        return (right_BKJ.flatten(1) @ self.columns_PP).view_as(right_BKJ)

    def transposed(self, right_BKJ: Tensor) -> Tensor:
        """Multiply right-hand sides by the transposed inverse, B x K x J."""
        return (right_BKJ.flatten(1) @ self.rows_PP).view_as(right_BKJ)


def pseudo_inverse(
    hessian: Hessian, *, absolute: float = 0.0, relative: float = 1e-10, decomposition: Decomposition = "eigh"
) -> PseudoInverse:
    """Compute the Moore-Penrose inverse of the whole Hessian, as the paper does (A.9).

    The Hessian is symmetric, so its singular values are the absolute values of its eigenvalues. Adding one number to
    the weights of a feature for all labels changes no probability. So without damping, the J smallest singular values
    are 0 in exact arithmetic, and about 1e-17 in floating point. The paper keeps all above 1e-20, including these,
    whose inverses dominate the result (with ``eigh`` on digits, such influences have a correlation of -0.1 with those
    of a cut-off at 1e-12 of the largest value; a cut-off at 1e-10 gives the same as 1e-12). With singular vectors, the
    paper's code had a cut-off of 1e-20 of the largest value on 17 June 2020, and of 5e-2 from 9 July on.

    Args:
        absolute: singular values up to this one are treated as 0.
        relative: singular values up to this share of the largest are treated as 0, too.
        decomposition: eigh: from the eigenvectors of the lower triangle; svd: from the singular vectors of the full
            matrix (LAPACK's ``gesdd``; on a GPU ``gesvd``, whose bits are the same in every run). Both are equal in
            exact arithmetic, but not if the cut-offs keep rounding errors.

    Raises:
        InvalidRequest: if the Hessian has more rows than ``MOST_DECOMPOSED``.
    """
    labels, inputs = hessian.shape
    remedy = "use conjugate gradients"
    require_dense(labels * inputs, MOST_DECOMPOSED[decomposition], f"the Hessian, by {decomposition}", remedy)
    whole_PP = hessian.dense()
    with computing():
        if decomposition == "eigh":
            inverse_PP = torch.linalg.pinv(whole_PP, atol=absolute, rtol=relative, hermitian=True)
            return PseudoInverse(inverse_PP, inverse_PP)
        # the computation of torch.linalg.pinv, which has no driver argument
        driver = "gesvd" if whole_PP.is_cuda else None
        left_PP, values_P, right_PP = torch.linalg.svd(whole_PP, full_matrices=False, driver=driver)
        kept_P = values_P > max(absolute, relative * float(values_P[0]))
        inverses_P = torch.where(kept_P, values_P.reciprocal(), 0.0)
        inverse_PP = (right_PP.mT * inverses_P) @ left_PP.mT
    return PseudoInverse(inverse_PP.mT, inverse_PP)


class ConjugateGradients:
    """Solver for several right-hand sides at once; each iterates until its own residual is small.

    Which right-hand sides are solved together only changes rounding, and thereby occasionally the number of iterations:
    results agree within the tolerance.

    Preconditioned by the blocks of single labels, K J^2 numbers (336 MB for 10 labels of a ResNet-50). The component
    common to all labels is treated separately, because there the Hessian is only the damping, unlike the blocks.
    Without this, five times as many iterations were needed (800 images of 512 features, 10 labels, damping 5e-4).
    """

    def __init__(self, hessian: Hessian, *, tolerance: float = 1e-6, most: int = 500) -> None:
        """Prepare the preconditioner.

        Args:
            tolerance: maximum norm of the residual, relative to that of the right-hand side.
            most: maximum number of iterations.

        Raises:
            InvalidRequest: if the damping is 0, so that there is no inverse, or too small for float64.
        """
        if hessian.damping == 0:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                "expected a damping above 0 for conjugate gradients; got 0. Fix: use the recipe's weight_decay",
                key="damping",
            )
        self.hessian, self.tolerance, self.most = hessian, tolerance, most
        blocks_KJJ, info_K = torch.linalg.cholesky_ex(hessian.label_blocks())
        if info_K.any():
            raise InvalidRequest(
                Code.IMPOSSIBLE_TRIAL,
                f"expected a damping that float64 can add to the Hessian; got {hessian.damping}. Fix: raise it",
                key="damping",
            )
        self._inverses_KJJ = torch.cholesky_inverse(blocks_KJJ)

    def __call__(self, right_BKJ: Tensor) -> Tensor:
        """Multiply each right-hand side by the inverse of the damped Hessian, B x K x J.

        Raises:
            InvalidRequest: if a residual is still too large after the maximum number of iterations.
        """
        solution_BKJ, residual = torch.zeros_like(right_BKJ), right_BKJ
        open_B, goal = torch.arange(len(right_BKJ), device=right_BKJ.device), self.tolerance * _norms(right_BKJ)
        direction = self._precondition(residual)
        descent = _dots(residual, direction)
        iterations = 0
        while (kept := ~(_norms(residual) <= goal).flatten()).any():  # NaN stays in the loop
            if iterations == self.most:
                worst = float((_norms(residual) / goal).max()) * self.tolerance
                raise InvalidRequest(
                    Code.IMPOSSIBLE_TRIAL,
                    f"expected a relative residual of {self.tolerance} within {self.most} iterations of conjugate "
                    f"gradients; got {worst:.1e}. Fix: raise the damping ({self.hessian.damping})",
                    key="damping",
                )
            open_B, goal, descent = open_B[kept], goal[kept], descent[kept]
            residual, direction = residual[kept], direction[kept]
            bent = self.hessian.product(direction)
            step = descent / _dots(direction, bent)
            solution_BKJ[open_B] += step * direction
            residual = residual - step * bent
            steepest = self._precondition(residual)
            descent, before = _dots(residual, steepest), descent
            direction = steepest + descent / before * direction
            iterations += 1
        return solution_BKJ

    def _precondition(self, residual_BKJ: Tensor) -> Tensor:
        common_B1J = residual_BKJ.mean(1, keepdim=True)
        own_KJB = (residual_BKJ - common_B1J).permute(1, 2, 0)
        found_BKJ = (self._inverses_KJJ @ own_KJB).permute(2, 0, 1)
        return found_BKJ - found_BKJ.mean(1, keepdim=True) + common_B1J / self.hessian.damping


def _dots(a_BKJ: Tensor, b_BKJ: Tensor) -> Tensor:
    return (a_BKJ * b_BKJ).sum((1, 2), keepdim=True)


def _norms(a_BKJ: Tensor) -> Tensor:
    return _dots(a_BKJ, a_BKJ).sqrt()
