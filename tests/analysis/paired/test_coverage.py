"""Measured coverage of 95 % intervals at typical study sizes, with a stated tolerance.

20,000 simulated cells give a standard error of .0015 at .95; the tolerance is three standard errors.
"""

import numpy as np
import pytest

from analysis.statistics.bootstrap import percentile
from analysis.statistics.paired_t import half_width, moments
from tests.analysis.support import Values

CELLS = 20_000
TOLERANCE = 0.005


def samples(shape: str, pairs: int, cells: int = CELLS) -> Values:
    """Return differences with mean 1: normal, or as skewed as an exponential distribution."""
    rng = np.random.default_rng([pairs, shape == "skewed"])
    noise = rng.exponential(1, (cells, pairs)) - 1 if shape == "skewed" else rng.normal(0, 1, (cells, pairs))
    return 1 + noise


def coverage_of_t(shape: str, pairs: int) -> float:
    values = samples(shape, pairs)
    found = moments(values.ravel(), np.repeat(np.arange(CELLS), pairs), CELLS)
    return float(np.mean(np.abs(found.mean - 1) <= half_width(found, 0.95)))


@pytest.mark.parametrize("pairs", [2, 3, 5, 10, 20])
def test_paired_t_holds_its_level_on_normal_differences(pairs: int) -> None:
    assert coverage_of_t("normal", pairs) == pytest.approx(0.95, abs=TOLERANCE)


@pytest.mark.parametrize(("pairs", "expected"), [(5, 0.88), (10, 0.90), (20, 0.92)])
def test_paired_t_on_skewed_differences(pairs: int, expected: float) -> None:
    assert coverage_of_t("skewed", pairs) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize(("pairs", "expected"), [(5, 0.84), (10, 0.905), (20, 0.93)])
def test_the_percentile_bootstrap_is_too_narrow(pairs: int, expected: float) -> None:
    rng = np.random.default_rng(1)
    intervals = [percentile(one, rng, resamples=500) for one in samples("normal", pairs, 1500)]
    assert np.mean([low <= 1 <= high for low, high in intervals]) == pytest.approx(expected, abs=0.03)
