"""The retry policy: every number that decides whether and how failed trials are retried."""

from dataclasses import dataclass
from typing import Literal

from jobs.errors import Code, InvalidRequest


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """What a launch does after failures. None of this changes a result.

    | cause of the end of an attempt | kind (``failure_classification``) | what follows |
    | --- | --- | --- |
    | lost machine, hung actor, failed GPU, ``OSError`` | infrastructure | retried, up to ``infrastructure_failures`` |
    | out of memory | memory | retried outside its bundle, then with a larger share (``share_growth``) |
    | any other exception of the trial | error | retried alone, up to ``own_errors`` or ``quarantine_after`` |
    | a stop, or a draining node | none | resumed; not counted |

    Trials are retried in the launch's next round, without a delay. ``launching.retries`` applies these rules.
    """

    infrastructure_failures: int = 10
    """Number of failures of a trial's machine, actor or storage in one launch after which the launch gives up on the
    trial. They do not count towards quarantine.
    """
    host_failures: int = 10
    """Number of different trials that fail one after another on one machine for infrastructure reasons, with none done
    there in between, after which the launch stops and names the machine, which would go on to take and fail every
    waiting trial. Of actors that ran there at the same time, only the first to fail counts, so that one short outage is
    one failure. Actors that die without an answer do not count, because their machine is not known.
    """
    own_errors: int = 3
    """Number of errors of the trial itself in one launch after which the launch gives up on it, even if they differ."""
    quarantine_after: int = 2
    """Number of consecutive identical errors of the trial itself, over all launches, after which it is quarantined:
    launches then skip it unless ``--retry-quarantined`` is given.
    """
    share_growth: int = 2
    """Factor by which a trial's share grows after it ran out of memory. A part of a GPU grows up to a whole one; whole
    GPUs, and CPUs without GPUs, up to the most that a machine of the cluster has had in this launch. Then the launch
    gives up on the trial.
    """
    leaves_bundle_after: frozenset[Literal["infrastructure", "memory", "error"]] = frozenset({"memory", "error"})
    """Kinds of failure after which a trial runs alone for the rest of the launch. A trial that ran out of memory in a
    bundle keeps its share for its first attempt alone.
    """
    alike_failures: int = 5
    """Number of failed trials that stops a launch if they are its first ones and all fail with the same error of their
    own, because then the study, the data or the machine is wrong.
    """
    hang_after_minutes: float = 30.0
    """Minutes without progress after which an actor is killed (``--hang-after``), as an infrastructure failure. Must
    exceed the time to load torch and images, to compile a network, or to process one batch.
    """
    suspended_after_seconds: float = 60.0
    """If the driver's loop pauses for longer than this many seconds, the driver itself was suspended (Ctrl-Z, closed
    laptop) and the pause does not count as silence of actors.
    """
    flag_patience_seconds: float = 60.0
    """Seconds that the driver waits for the stop flag to answer before it restarts the flag."""
    stop_grace_seconds: float = 60.0
    """Seconds that running trials have to save and exit after a stop request; longer than any batch takes."""

    def __post_init__(self) -> None:
        if not 0 < self.hang_after_minutes < float("inf"):
            raise InvalidRequest(
                Code.WRONG_VALUE,
                "expected --hang-after in minutes, above 0 and longer than loading or compiling takes; got "
                f"{self.hang_after_minutes}",
                key="--hang-after",
            )
