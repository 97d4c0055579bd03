"""What becomes of a trial in a round, as actors report it and the driver adds to it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from jobs.results import Failure, FailureKind


class State(StrEnum):
    """How a trial's attempt ended, seen from the driver."""

    DONE = "done"
    """Its result stands in the results root."""
    STOPPED = "stopped"
    """It was asked to leave and saved itself."""
    FAILED = "failed"
    """It or its machine failed; the failure stands in the results root."""


class Outcome(NamedTuple):
    """The end of one attempt; the last three only when it failed."""

    state: State
    notes: tuple[str, ...] = ()
    kind: FailureKind | None = None
    signature: str = ""

    @classmethod
    def failed(cls, failure: Failure) -> "Outcome":
        return cls(State.FAILED, (), failure.kind, failure.signature)

    @classmethod
    def parse(cls, plain: Mapping[str, object]) -> "Outcome":
        """From what ``plain`` gave; Tune carries results as plain dictionaries."""
        kind = plain["kind"]
        return cls(
            State(str(plain["state"])),
            tuple(plain["notes"]),  # type: ignore[arg-type]  # a list of strings, by plain()
            FailureKind(str(kind)) if kind else None,
            str(plain["signature"]),
        )

    def plain(self) -> dict[str, object]:
        return {
            "state": self.state.value,
            "notes": list(self.notes),
            "kind": self.kind.value if self.kind else None,
            "signature": self.signature,
        }
