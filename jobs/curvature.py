"""The last layer as a softmax regression: its gradients, its Hessian in closed form, and the inverse of that.

The parameters are a matrix K x J: the FC layer's weights and its bias as the last column. With p the probabilities, e_y
the label and x the pooled features with a 1 appended, an image's cross-entropy has the gradient (p - e_y) x^T and the
Hessian (diag p - p p^T) (x) x x^T. Everything is float64.

Shape suffixes: N images, K labels, J features and a 1, B right-hand sides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from jobs.errors import Code, InvalidRequest
from jobs.progress import computing, progressed
from jobs.specs import MOST_DECOMPOSED, MOST_DENSE, Decomposition

Solve = Callable[[Tensor], Tensor]
"""Right-hand sides B x K x J to their products with the inverse of a Hessian, B x K x J."""


class Examples(NamedTuple):
    """Images as the last layer sees them; their gradients are kept as the factors ``residuals`` and ``inputs``."""

    inputs_NJ: Tensor
    probabilities_NK: Tensor
    residuals_NK: Tensor
    """p - e_y."""

    @classmethod
    def of(cls, fc: nn.Linear, features_ND: Tensor, labels_N: Tensor) -> Self:
        """Images with these pooled features and labels under this layer.

        Raises:
            InvalidRequest: when a logit is not finite.
        """
        features_ND = features_ND.double()
        logits_NK = features_ND @ fc.weight.detach().double().T + fc.bias.detach().double()
        if not logits_NK.isfinite().all():
            raise InvalidRequest(
                Code.IMPOSSIBLE_TRIAL,
                "influence needs finite logits, and the network gives others: it has diverged; "
                "train it with a smaller learning_rate",
                key="learning_rate",
            )
        inputs_NJ = torch.cat([features_ND, features_ND.new_ones(len(features_ND), 1)], 1)
        probabilities_NK = logits_NK.softmax(1)
        return cls(inputs_NJ, probabilities_NK, probabilities_NK - nn.functional.one_hot(labels_N, logits_NK.shape[1]))

    @property
    def images(self) -> int:
        return len(self.inputs_NJ)

    def gradients(self, part: slice) -> Tensor:
        """The gradients of some images' losses, B x K x J."""
        return self.residuals_NK[part, :, None] * self.inputs_NJ[part, None, :]

    def inner_products(self, vectors_BKJ: Tensor) -> Tensor:
        """Of every image's gradient with every vector, N x B; no gradient is made."""
        along_NBK = (self.inputs_NJ @ vectors_BKJ.flatten(0, 1).T).view(-1, *vectors_BKJ.shape[:2])
        return torch.einsum("nbk,nk->nb", along_NBK, self.residuals_NK)


class Hessian:
    """Of the mean cross-entropy over training images (equation 7), plus damping times the identity.

    The trained loss had half the recipe's ``weight_decay`` times the squared norm of weights and bias in it: with
    that number as ``damping`` this is the Hessian of what was trained. The paper's has none; its sum over images
    differs from the mean by a factor.
    """

    def __init__(self, train: Examples, damping: float) -> None:
        """Raises:
        InvalidRequest: when the damping is below 0.
        """
        if not damping >= 0:
            raise InvalidRequest(Code.WRONG_VALUE, f"damping is at least 0; it is {damping}", key="damping")
        self.train = train
        self.damping = damping
        self.shape = train.probabilities_NK.shape[1], train.inputs_NJ.shape[1]

    def product(self, vectors_BKJ: Tensor) -> Tensor:
        """The Hessian times each vector, B x K x J, in 4 N J K B operations; the Hessian is not made."""
        progressed()
        x_NJ, p_N1K = self.train.inputs_NJ, self.train.probabilities_NK[:, None]
        along_NBK = (x_NJ @ vectors_BKJ.flatten(0, 1).T).view(-1, *vectors_BKJ.shape[:2])
        curved_NBK = p_N1K * (along_NBK - (p_N1K * along_NBK).sum(2, keepdim=True))
        products_BKJ: Tensor = (curved_NBK.flatten(1).T @ x_NJ).view_as(vectors_BKJ) / self.train.images
        return products_BKJ + self.damping * vectors_BKJ

    def dense(self) -> Tensor:
        """The whole matrix, K J x K J.

        Raises:
            InvalidRequest: when it has more than ``MOST_DENSE`` rows.
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
        """The blocks on the diagonal that belong to one label each, K x J x J."""
        x_NJ, p_NK = self.train.inputs_NJ, self.train.probabilities_NK
        weights_NK = p_NK * (1 - p_NK) / self.train.images
        blocks_KJJ = torch.stack([(x_NJ * weights_N[:, None]).T @ x_NJ for weights_N in weights_NK.T])
        blocks_KJJ.diagonal(dim1=1, dim2=2).add_(self.damping)
        return blocks_KJJ


def require_dense(rows: int, most: int, what: str, remedy: str) -> None:
    """Refuse a matrix that is too large to be inverted; whether a machine can hold it is asked by ``jobs.dense``.

    Raises:
        InvalidRequest: when it has more than ``most`` rows.
    """
    if rows > most:
        raise InvalidRequest(
            Code.IMPOSSIBLE_TRIAL,
            f"expected up to {most} rows of what is held whole; got {rows}, of {what}. Fix: {remedy}",
            key="measure",
        )


@dataclass(frozen=True)
class PseudoInverse:
    """An inverse P x P as a ``Solve``. By singular vectors it is as symmetric as rounding leaves it: not at all where
    singular values are kept that are nothing but rounding.
    """

    columns_PP: Tensor
    """Rows that are multiplied by this are multiplied by the inverse from the left, as columns."""
    rows_PP: Tensor
    """The same for the transposed inverse. By eigenvectors the two are one."""

    def __call__(self, right_BKJ: Tensor) -> Tensor:
        return (right_BKJ.flatten(1) @ self.columns_PP).view_as(right_BKJ)

    def transposed(self, right_BKJ: Tensor) -> Tensor:
        """Right-hand sides to their products with the transposed inverse, B x K x J."""
        return (right_BKJ.flatten(1) @ self.rows_PP).view_as(right_BKJ)


def pseudo_inverse(
    hessian: Hessian, *, absolute: float = 0.0, relative: float = 1e-10, decomposition: Decomposition = "eigh"
) -> PseudoInverse:
    """The paper's way (A.9): the Moore-Penrose inverse of the whole Hessian.

    The Hessian is symmetric: its singular values are its eigenvalues' absolute values. Adding one number to all of a
    feature's weights changes no probability, so undamped the J smallest singular values are 0, and 1e-17 or so in
    floating point. The paper keeps all above 1e-20, these too, and their inverses drown the rest (by ``eigh`` on digits
    such influences correlate by -0.1 with those of a cut at 1e-12 of the largest, which a cut at 1e-10 does not
    change). Its code cut at 1e-20 of the largest on 17 June 2020 and from 9 July on at 5e-2, by singular vectors.

    Args:
        absolute: singular values up to this count as 0.
        relative: those up to this share of the largest do too.
        decomposition: eigh: from the lower triangle's eigenvectors; svd: from the singular vectors of the matrix as it
            is (LAPACK's ``gesdd``; on a GPU ``gesvd``, whose bits do not change from run to run). In exact arithmetic
            the two are one; where the cut-offs keep rounding they are not.

    Raises:
        InvalidRequest: when the Hessian has more rows than ``MOST_DECOMPOSED``.
    """
    labels, inputs = hessian.shape
    remedy = "use conjugate gradients"
    require_dense(labels * inputs, MOST_DECOMPOSED[decomposition], f"the Hessian, by {decomposition}", remedy)
    whole_PP = hessian.dense()
    with computing():
        if decomposition == "eigh":
            inverse_PP = torch.linalg.pinv(whole_PP, atol=absolute, rtol=relative, hermitian=True)
            return PseudoInverse(inverse_PP, inverse_PP)
        # what torch.linalg.pinv does, which takes no driver
        driver = "gesvd" if whole_PP.is_cuda else None
        left_PP, values_P, right_PP = torch.linalg.svd(whole_PP, full_matrices=False, driver=driver)
        kept_P = values_P > max(absolute, relative * float(values_P[0]))
        inverses_P = torch.where(kept_P, values_P.reciprocal(), 0.0)
        inverse_PP = (right_PP.mT * inverses_P) @ left_PP.mT
    return PseudoInverse(inverse_PP.mT, inverse_PP)


class ConjugateGradients:
    """Solves for many right-hand sides at once, each until its own residual is small. Which are solved together changes
    only rounding, and with it, seldom, which iteration is the last: results agree to the tolerance.

    Preconditioned by the blocks of single labels, K J^2 numbers (336 MB for 10 labels of a ResNet-50). What is
    common to all labels is taken out before and after, because the Hessian is only damping there and the blocks
    are not: without this it took five times the iterations (800 images of 512 features, 10 labels, damping 5e-4).
    """

    def __init__(self, hessian: Hessian, *, tolerance: float = 1e-6, most: int = 500) -> None:
        """Prepare the preconditioner.

        Args:
            tolerance: of the residual's norm, as a share of the right-hand side's.
            most: iterations.

        Raises:
            InvalidRequest: when the damping is 0, for then there is no inverse, or too small for float64.
        """
        if hessian.damping == 0:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                "conjugate gradients need a damping above 0; it is 0; use the recipe's weight_decay",
                key="damping",
            )
        self.hessian, self.tolerance, self.most = hessian, tolerance, most
        blocks_KJJ, info_K = torch.linalg.cholesky_ex(hessian.label_blocks())
        if info_K.any():
            raise InvalidRequest(
                Code.IMPOSSIBLE_TRIAL,
                f"a damping of {hessian.damping} is lost beside the Hessian in float64; raise it",
                key="damping",
            )
        self._inverses_KJJ = torch.cholesky_inverse(blocks_KJJ)

    def __call__(self, right_BKJ: Tensor) -> Tensor:
        """The inverse of the damped Hessian times each right-hand side, B x K x J.

        Raises:
            InvalidRequest: when a residual is not small after the most iterations.
        """
        solution_BKJ, residual = torch.zeros_like(right_BKJ), right_BKJ
        open_B, goal = torch.arange(len(right_BKJ), device=right_BKJ.device), self.tolerance * _norms(right_BKJ)
        direction = self._precondition(residual)
        descent = _dots(residual, direction)
        iterations = 0
        while (kept := ~(_norms(residual) <= goal).flatten()).any():  # what is not a number stays
            if iterations == self.most:
                worst = float((_norms(residual) / goal).max()) * self.tolerance
                raise InvalidRequest(
                    Code.IMPOSSIBLE_TRIAL,
                    f"conjugate gradients reach a relative residual of {self.tolerance} within {self.most} iterations; "
                    f"it is {worst:.1e}; raise the damping ({self.hessian.damping})",
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
