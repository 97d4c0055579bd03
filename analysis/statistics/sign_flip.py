"""The sign-flip test of paired differences: exact, and without assuming normality.

If both arms are equivalent, each pair's difference could equally have had the opposite sign (Fisher 1935).
"""

import numpy as np
from scipy import stats

from analysis.statistics.paired_t import Floats

EXACT_UP_TO = 20
"""Number of pairs up to which all sign vectors (2^20) are enumerated; beyond it, some are drawn at random."""

_AT_ONCE = 1 << 14


def sign_flip(differences: Floats, rng: np.random.Generator, draws: int = 100_000) -> float:
    """Return the two-sided p-value against differences that are symmetric around 0.

    Args:
        rng: used only above ``EXACT_UP_TO`` pairs.
        draws: number of random sign vectors in that case; the observed one counts too, so p is never 0.
    """
    n = len(differences)
    if n < 2:  # scipy requires two
        return 1.0 if n else float("nan")
    counted = 2**n if n <= EXACT_UP_TO else draws
    tested = stats.permutation_test(
        (differences,),
        np.sum,
        permutation_type="samples",
        n_resamples=counted,
        batch=_AT_ONCE,
        vectorized=True,
        rng=rng,
    )
    return float(tested.pvalue)
