"""Small data and made weights, for commands that train or check."""

from tests.jobs.fixtures import digits, few_digits, weights

__all__ = ["digits", "few_digits", "weights"]
