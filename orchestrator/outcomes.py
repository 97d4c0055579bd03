"""How a trial in a launch can end."""

from enum import StrEnum


class Outcome(StrEnum):
    """What an actor reports about a trial."""

    DONE = "done"
    """Its result stands in the results root."""
    FAILED = "failed"
    """It raised; reason and log stand in the results root."""
