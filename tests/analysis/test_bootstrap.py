"""Resampling: seeded, equivariant, and as wide as it should be."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.bootstrap import percentile, studentized
from tests.analysis.support import Values

Method = Callable[[Values, np.random.Generator], tuple[float, float]]
METHODS: list[Method] = [percentile, studentized]
SAMPLE = np.random.default_rng(0).normal(3, 2, 10)


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides_and_nothing_else(method: Method) -> None:
    np.random.seed(1)
    first = method(SAMPLE, np.random.default_rng(7))
    np.random.seed(2)
    assert method(SAMPLE, np.random.default_rng(7)) == first
    assert method(SAMPLE, np.random.default_rng(8)) != first


@pytest.mark.parametrize("method", METHODS)
def test_shift_and_scale(method: Method) -> None:
    low, high = method(SAMPLE, np.random.default_rng(7))
    moved = method(10 + 2 * SAMPLE, np.random.default_rng(7))
    assert moved == pytest.approx((10 + 2 * low, 10 + 2 * high), rel=1e-12)


def test_percentile_is_scipys() -> None:
    ours = percentile(SAMPLE, np.random.default_rng(1), resamples=50_000)
    oracle = stats.bootstrap(
        (SAMPLE,), np.mean, method="percentile", n_resamples=50_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours == pytest.approx(oracle, abs=0.02)


def test_studentized_is_near_the_t_interval_on_normal_data() -> None:
    values = np.random.default_rng(3).normal(0, 1, 200)
    ours = studentized(values, np.random.default_rng(1))
    assert ours == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(), abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_or_equal_values(method: Method) -> None:
    assert np.isnan(method(np.array([1.0]), np.random.default_rng(0))).all()
    assert method(np.full(5, 2.5), np.random.default_rng(0)) == (2.5, 2.5)
