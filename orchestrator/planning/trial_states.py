"""The states of a study's trials. Imports nothing, because the command line offers them as choices."""

from typing import Literal, get_args

TrialState = Literal["done", "damaged", "quarantined", "running", "failed", "pending"]
STATES: tuple[TrialState, ...] = get_args(TrialState)
"""In order of precedence."""
