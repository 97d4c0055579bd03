"""The trials that a launch runs next, according to the retry policy. Pure bookkeeping, no Ray."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from jobs.results import FailureKind
from orchestrator.failures.outcomes import Outcome, State
from orchestrator.failures.retry_policy import RetryPolicy


class Round(NamedTuple):
    """Trials for one Tuner, all with the same share."""

    share: int
    """Multiple of the study's share: a power of the policy's ``share_growth``, or the largest that a machine has."""
    bundles: list[list[str]]
    """Trials that share an actor; usually one."""
    after_memory: bool
    """Whether any of them has run out of memory."""

    @property
    def trials(self) -> list[str]:
        return [trial for bundle in self.bundles for trial in bundle]


class LargestShares:
    """The largest multiple of each stage's share that any machine has had in a launch. A cluster that shrank grows
    again while trials wait.
    """

    def __init__(self, now: Sequence[Callable[[], int]]) -> None:
        """
        Args:
            now: Each returns the largest multiple of a stage's share that any machine has now; 0: there is none.
        """
        self._now = now
        self._had = [0] * len(now)

    def look(self) -> None:
        """Look at the machines of now. Those that join and leave between two looks are not seen."""
        self._had = [max(had, now()) for had, now in zip(self._had, self._now, strict=True)]

    def of(self, stage: int) -> int:
        """Return the largest multiple of a stage's share, after a look."""
        self.look()
        return self._had[stage]


class Retries:
    """Tracks the remaining trials of a launch and their shares."""

    def __init__(
        self,
        trials: Iterable[str],
        policy: RetryPolicy,
        largest_share: Callable[[], int],
        bundle_of: Callable[[str], Hashable] = lambda trial: trial,
    ) -> None:
        """
        Args:
            trials: Ids in the order in which they should run.
            largest_share: Returns the largest multiple of the trials' share that any machine has had; 0: there is none.
            bundle_of: Returns a key that is equal for trials that run in one actor. By default every trial runs alone.
        """
        self._waiting: dict[str, int] = dict.fromkeys(trials, 1)
        self._policy = policy
        self._largest_share = largest_share
        self._bundle_of = bundle_of
        self._bundled: set[str] = set()
        """Trials of the last round that shared an actor."""
        self._alone: set[str] = set()
        """Trials that have left their bundle permanently."""
        self._ran_out: set[str] = set()
        """Trials that have run out of memory."""
        self._infrastructure_failures: Counter[str] = Counter()
        self._own_errors: Counter[str] = Counter()
        self.given_up: dict[str, str] = {}
        """Reasons by trial id, for trials that this launch does not retry."""

    def next_round(self) -> Round | None:
        """Return the waiting trials with the smallest share, or None if no trial is waiting."""
        if not self._waiting:
            return None
        share = min(self._waiting.values())
        bundles: dict[Hashable, list[str]] = {}
        trials = [trial for trial, wanted in self._waiting.items() if wanted == share]
        for trial in trials:
            bundle = trial if trial in self._alone else self._bundle_of(trial)
            bundles.setdefault(bundle, []).append(trial)
        self._bundled = {trial for bundle in bundles.values() if len(bundle) > 1 for trial in bundle}
        return Round(share, list(bundles.values()), after_memory=not self._ran_out.isdisjoint(trials))

    def record(self, outcomes: Mapping[str, Outcome], quarantined: set[str]) -> None:
        """Record the outcomes of a round.

        Args:
            quarantined: Ids that are quarantined now according to the failures in the results root.
        """
        for trial, outcome in outcomes.items():
            if outcome.state is State.DONE:
                del self._waiting[trial]
            elif outcome.state is State.FAILED and (reason := self._give_up(trial, outcome.kind, quarantined)):
                del self._waiting[trial]
                self.given_up[trial] = f"{reason}: {outcome.signature}"

    def _give_up(self, trial: str, kind: FailureKind | None, quarantined: set[str]) -> str | None:
        """Return why a failed trial is not retried in this launch; None if it is."""
        if kind in self._policy.leaves_bundle_after:
            self._alone.add(trial)
        match kind:
            case FailureKind.INFRASTRUCTURE:
                return self._after_infrastructure(trial)
            case FailureKind.MEMORY:
                return self._after_memory(trial)
            case _:
                return self._after_own_error(trial, quarantined)

    def _after_infrastructure(self, trial: str) -> str | None:
        self._infrastructure_failures[trial] += 1
        most = self._policy.infrastructure_failures
        return f"its machine failed {most} times" if self._infrastructure_failures[trial] >= most else None

    def _after_memory(self, trial: str) -> str | None:
        self._ran_out.add(trial)
        if trial in self._bundled and trial in self._alone:
            return None
        grown = self._waiting[trial] * self._policy.share_growth
        if largest := self._largest_share():  # else no machine is known yet, and one that is large enough may come
            grown = min(grown, largest)
        if grown <= self._waiting[trial]:
            return "out of memory even with the largest share of any machine"
        self._waiting[trial] = grown
        return None

    def _after_own_error(self, trial: str, quarantined: set[str]) -> str | None:
        self._own_errors[trial] += 1
        if trial in quarantined:
            return f"failed {_times(self._policy.quarantine_after)} with the same error and was quarantined"
        most = self._policy.own_errors
        return f"failed {most} times" if self._own_errors[trial] >= most else None


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def all_fail_alike(outcomes: Iterable[Outcome], policy: RetryPolicy) -> str | None:
    """Return the signature if the first ``alike_failures`` outcomes of a launch are the same error of the trials.

    In that case the study, the data or the machine is at fault rather than a trial, and continuing wastes money.
    """
    count, signature = 0, None
    for outcome in outcomes:  # called after every trial, so return early at the first that differs
        if outcome.state is State.STOPPED:
            continue
        if outcome.kind is not FailureKind.ERROR or signature not in (None, outcome.signature):
            return None
        count, signature = count + 1, outcome.signature
    return signature if count >= policy.alike_failures else None
