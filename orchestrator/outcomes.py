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


class RootFailure(NamedTuple):
    """The results root refused an attempt: no trial's fault."""

    message: str
    lasting: bool
    """Full, read-only, not permitted: every trial would meet it. Otherwise it may be one machine that is cut off."""


class Outcome(NamedTuple):
    """The end of one attempt; all but the first two only when it failed."""

    state: State
    notes: tuple[str, ...] = ()
    kind: FailureKind | None = None
    signature: str = ""
    root_failure: RootFailure | None = None

    @classmethod
    def failed(cls, failure: Failure, notes: tuple[str, ...] = (), root: RootFailure | None = None) -> "Outcome":
        return cls(State.FAILED, notes, failure.kind, failure.signature, root)

    @classmethod
    def parse(cls, plain: Mapping[str, object]) -> "Outcome":
        """From what ``plain`` gave; Tune carries results as plain dictionaries."""
        kind, root = plain["kind"], plain["root_failure"]
        return cls(
            State(str(plain["state"])),
            tuple(plain["notes"]),  # type: ignore[arg-type]  # a list of strings, by plain()
            FailureKind(str(kind)) if kind else None,
            str(plain["signature"]),
            RootFailure(*root) if root else None,  # type: ignore[misc]  # a list of its fields, by plain()
        )

    def plain(self) -> dict[str, object]:
        return {
            "state": self.state.value,
            "notes": list(self.notes),
            "kind": self.kind.value if self.kind else None,
            "signature": self.signature,
            "root_failure": list(self.root_failure) if self.root_failure else None,
        }


class StopCause(StrEnum):
    """Why a launch ended before its trials did."""

    INTERRUPTED = "interrupted"
    """By a signal."""
    LIMIT = "limit"
    """It reached what it may cost or last."""
    FAILING = "failing"
    """Every trial would fail: they all do in the same way."""
    MACHINE = "machine"
    """A machine is not as the driver's: every trial would fail there."""
    STORAGE = "storage"
    """The results root refuses, or does not answer."""


class Stop(NamedTuple):
    """That a launch is to end before its trials do."""

    cause: StopCause
    reason: str
