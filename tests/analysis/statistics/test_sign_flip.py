"""The sign-flip test: hand-computed values, scipy's values, and edge cases."""

from itertools import product

import numpy as np
import pytest

from analysis.statistics.sign_flip import sign_flip


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("differences", "p"), [([1.0], 1.0), ([1.0, 1.0], 0.5), ([1.0, 2.0, 3.0], 0.25), ([1.0, -1.0], 1.0), ([0.0], 1.0)]
)
def test_by_hand(differences: list[float], p: float) -> None:
    assert sign_flip(np.array(differences), rng()) == p


def test_every_sign_vector_is_counted() -> None:
    values = np.random.default_rng(1).normal(0.7, 1, 12)
    sums = np.array(list(product((-1, 1), repeat=12))) @ values
    assert sign_flip(values, rng()) == pytest.approx(np.mean(np.abs(sums) >= values.sum() - 1e-12), abs=1e-12)


def test_twenty_pairs_are_counted_exactly() -> None:
    assert sign_flip(np.arange(1.0, 21.0), rng()) == 2 / 2**20


def test_random_draws_agree_with_the_exact_test(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 17)
    exact = sign_flip(values, rng())
    monkeypatch.setattr("analysis.statistics.sign_flip.EXACT_UP_TO", 1)
    assert sign_flip(values, rng()) == pytest.approx(exact, abs=4 * np.sqrt(exact / 100_000))
    assert sign_flip(values, np.random.default_rng(5)) != sign_flip(values, rng())


def test_equal_decimal_differences_are_ties() -> None:
    values = np.array([0.1, 0.2, 0.3, -0.1, -0.2])  # 0.1 + 0.2 + 0.3 - 0.1 - 0.2 is not 0.3 in binary
    scaled = np.array([1.0, 2.0, 3.0, -1.0, -2.0])
    assert sign_flip(values, rng()) == sign_flip(scaled, rng())


def test_no_pairs() -> None:
    assert np.isnan(sign_flip(np.array([]), rng()))
