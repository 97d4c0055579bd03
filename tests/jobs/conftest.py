"""Small data and generated weights."""

from tests.jobs.fixtures import colours, digits, few_digits, other_weights, short_tests, weights

__all__ = ["colours", "digits", "few_digits", "other_weights", "short_tests", "weights"]
