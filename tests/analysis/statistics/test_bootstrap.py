"""Resampling: seeded, equivariant, and with intervals of the right width."""

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.bootstrap import percentile

SAMPLE = np.random.default_rng(0).normal(3, 2, 10)


def test_the_seed_decides_and_nothing_else() -> None:
    np.random.seed(1)
    first = percentile(SAMPLE, np.random.default_rng(7))
    np.random.seed(2)
    assert percentile(SAMPLE, np.random.default_rng(7)) == first
    assert percentile(SAMPLE, np.random.default_rng(8)) != first


def test_shift_and_scale() -> None:
    low, high = percentile(SAMPLE, np.random.default_rng(7))
    moved = percentile(10 + 2 * SAMPLE, np.random.default_rng(7))
    assert moved == pytest.approx((10 + 2 * low, 10 + 2 * high), rel=1e-12)


def test_percentile_is_scipys() -> None:
    ours = percentile(SAMPLE, np.random.default_rng(1), resamples=50_000)
    oracle = stats.bootstrap(
        (SAMPLE,), np.mean, method="percentile", n_resamples=50_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours == pytest.approx(oracle, abs=0.02)


def test_too_few_or_equal_values() -> None:
    assert np.isnan(percentile(np.array([1.0]), np.random.default_rng(0))).all()
    assert percentile(np.full(5, 2.5), np.random.default_rng(0)) == (2.5, 2.5)
