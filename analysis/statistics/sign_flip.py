"""The sign-flip test of paired differences: exact, and without normality.

If an arm makes no difference, each pair's difference could as well have had the other sign (Fisher 1935).
"""

import numpy as np

from analysis.statistics.paired_t import Floats

EXACT_UP_TO = 20
"""Pairs; 2^20 sign vectors are counted one by one, more are drawn at random."""

_CHUNK = 1 << 14


def sign_flip(differences: Floats, rng: np.random.Generator, draws: int = 100_000) -> float:
    """Two-sided p against differences that are symmetric around 0.

    Args:
        rng: used above ``EXACT_UP_TO`` pairs only.
        draws: random sign vectors above that; the observed one counts too, so p is never 0.
    """
    n = len(differences)
    if n == 0:
        return float("nan")
    # a sum that differs from the observed one in rounding only is as extreme
    observed = float(abs(differences.sum())) * (1 - 1e-12)
    if n <= EXACT_UP_TO:
        hits = sum(_extreme(_signs(start, n), differences, observed) for start in range(0, 2**n, _CHUNK))
        return float(hits / 2**n)
    random = (rng.choice((-1.0, 1.0), size=(min(_CHUNK, draws - start), n)) for start in range(0, draws, _CHUNK))
    return (1 + sum(_extreme(signs, differences, observed) for signs in random)) / (1 + draws)


def _signs(start: int, n: int) -> Floats:
    """Rows of -1 and +1: the bits of the numbers from ``start``, one chunk, at most 2^n in all."""
    numbers = np.arange(start, min(start + _CHUNK, 2**n))
    return np.asarray(((numbers[:, None] >> np.arange(n)) & 1) * 2.0 - 1.0, dtype=np.float64)


def _extreme(signs: Floats, differences: Floats, observed: float) -> int:
    return int(np.count_nonzero(np.abs(signs @ differences) >= observed))
