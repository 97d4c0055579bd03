"""Intervals and tests, compared with scipy and statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.statistics.holm import holm
from analysis.statistics.paired_t import bonferroni, half_width, moments, p_values
from tests.analysis.support import Values


@pytest.fixture
def cells() -> list[Values]:
    rng = np.random.default_rng(1)
    return [rng.normal(3, 2, size) for size in (2, 3, 5, 10, 20)]


def test_intervals_and_p_values_are_scipys(cells: list[Values]) -> None:
    values = np.concatenate(cells)
    cell = np.repeat(np.arange(len(cells)), [len(one) for one in cells])
    found = moments(values, cell, len(cells))
    half, p = half_width(found, 0.95), p_values(found)
    for index, one in enumerate(cells):
        oracle = stats.ttest_1samp(one, 0)
        interval = oracle.confidence_interval(0.95)
        assert found.mean[index] - half[index] == pytest.approx(interval.low, abs=1e-9)
        assert found.mean[index] + half[index] == pytest.approx(interval.high, abs=1e-9)
        assert p[index] == pytest.approx(oracle.pvalue, rel=1e-9)


def test_cells_do_not_touch_each_other(cells: list[Values]) -> None:
    values = np.concatenate(cells)
    cell = np.repeat(np.arange(len(cells)), [len(one) for one in cells])
    shuffled = np.random.default_rng(2).permutation(len(values))
    together, apart = moments(values, cell, len(cells)), moments(values[shuffled], cell[shuffled], len(cells))
    np.testing.assert_allclose(together.mean, apart.mean, rtol=1e-14)
    np.testing.assert_allclose(together.sd, apart.sd, rtol=1e-12)


def test_one_or_no_value_has_no_interval() -> None:
    found = moments(np.array([4.0]), np.array([1]), 3)
    assert found.n.tolist() == [0, 1, 0]
    assert found.mean[1] == 4.0
    assert np.isnan(found.mean[[0, 2]]).all()
    assert np.isnan(half_width(found, 0.95)).all()
    assert np.isnan(p_values(found)).all()


@pytest.mark.parametrize(("value", "p"), [(2.0, 0.0), (0.0, 1.0)])
def test_equal_differences(value: float, p: float) -> None:
    found = moments(np.full(4, value), np.zeros(4, dtype=np.int64), 1)
    assert half_width(found, 0.95)[0] == 0
    assert p_values(found)[0] == p


def test_large_offsets_lose_no_digits() -> None:
    values = 1e8 + np.array([1.0, 2.0, 3.0])
    assert moments(values, np.zeros(3, dtype=np.int64), 1).sd[0] == pytest.approx(1.0, rel=1e-12)


def test_bonferroni_shares_the_error() -> None:
    np.testing.assert_allclose(bonferroni(0.95, np.array([0, 1, 5])), [0.95, 0.95, 0.99])


def test_holm_is_statsmodels() -> None:
    p = np.random.default_rng(3).uniform(0, 0.2, 50)
    p[10:13] = p[10]
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-14)


def test_holm_ignores_cells_without_a_p() -> None:
    p = np.array([0.01, np.nan, 0.04])
    np.testing.assert_allclose(holm(p), [0.02, np.nan, 0.04])
