"""Outcomes of a round's trials, as reported by actors and completed by the driver, and reasons to stop a launch."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from jobs.results import Failure, FailureKind


class State(StrEnum):
    """How an attempt at a trial ended, from the driver's point of view."""

    DONE = "done"
    """Its result is in the results root."""
    STOPPED = "stopped"
    """It saved a checkpoint and stopped on request."""
    FAILED = "failed"
    """The trial or its machine failed; the failure is recorded in the results root."""


class RootFailure(NamedTuple):
    """A failure of the results root, which is not charged to any trial."""

    message: str
    lasting: bool
    """Whether every trial would fail (storage is full, read-only or not permitted). If False, possibly only one machine
    is disconnected.
    """


class Outcome(NamedTuple):
    """The outcome of one attempt. ``kind``, ``signature`` and ``root_failure`` are those of a failed one."""

    state: State
    notes: tuple[str, ...] = ()
    kind: FailureKind | None = None
    signature: str = ""
    root_failure: RootFailure | None = None
    host: str = ""
    """Where the attempt ran, if its actor returned the outcome."""

    @classmethod
    def failed(cls, failure: Failure, notes: tuple[str, ...] = (), root: RootFailure | None = None) -> "Outcome":
        return cls(State.FAILED, notes, failure.kind, failure.signature, root)

    @classmethod
    def parse(cls, plain: Mapping[str, object]) -> "Outcome":
        """Parse the result of ``plain``, since Tune transports results as plain dictionaries."""
        kind, root = plain["kind"], plain["root_failure"]
        return cls(
            State(str(plain["state"])),
            tuple(plain["notes"]),  # type: ignore[arg-type]  # a list of strings, by plain()
            FailureKind(str(kind)) if kind else None,
            str(plain["signature"]),
            RootFailure(*root) if root else None,  # type: ignore[misc]  # a list of its fields, by plain()
            str(plain["host"]),
        )

    def plain(self) -> dict[str, object]:
        return {
            "state": self.state.value,
            "notes": list(self.notes),
            "kind": self.kind.value if self.kind else None,
            "signature": self.signature,
            "root_failure": list(self.root_failure) if self.root_failure else None,
            "host": self.host,
        }


class ActorLeaves(Exception):
    """An actor must not be reused. Its trials have ended as usual."""

    def __init__(self, outcomes: dict[str, dict[str, object]]) -> None:
        super().__init__(outcomes)
        self.outcomes = outcomes
        """Outcomes by trial id (``Outcome.plain``)."""


class NodeDraining(ActorLeaves):
    """The actor's node is draining. Its trials have saved checkpoints and run elsewhere in the next round."""


class GpuRefused(ActorLeaves):
    """The actor's process may compute other numbers than others (``jobs.execution.gpu_memory``)."""


class GpuFailed(ActorLeaves):
    """The actor's process can no longer compute on its GPU (``failure_classification.breaks_gpu``)."""


class MachineFailed(ActorLeaves):
    """A trial failed for an infrastructure reason, which may lie in this process; the next actor is a new one."""


class StopCause(StrEnum):
    """Why a launch stopped before all its trials were finished."""

    INTERRUPTED = "interrupted"
    """A signal."""
    TUNE = "tune"
    """Ray Tune ended a round without the outcomes of all its trials."""
    LIMIT = "limit"
    """The limit on cost or time was reached."""
    FAILING = "failing"
    """The first trials all failed with the same error, so every trial would fail."""
    MACHINE = "machine"
    """Every trial would fail on one of the machines: it differs from the driver's, or fails again and again."""
    STORAGE = "storage"
    """The results root refuses access or does not respond."""


class Stop(NamedTuple):
    """A decision to stop a launch before all its trials are finished."""

    cause: StopCause
    reason: str
