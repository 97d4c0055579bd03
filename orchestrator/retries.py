"""What to run next in a launch: the rules for trials that did not end well. Pure bookkeeping, no Ray.

- infrastructure: tried again, at most ``MOST_CRASHES`` times a launch; the trial is not charged.
- out of memory: tried again out of its bundle, then with twice the share, as long as some machine has that much.
- the trial's own error: tried once more, out of its bundle; failing twice in the same way is quarantine
  (``jobs.results``).
- stopped because its node drains: tried again.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple

from jobs.results import FailureKind
from orchestrator.outcomes import Outcome, State

MOST_CRASHES = 10
MOST_ERRORS = 3
"""Own errors that differ from each other: not quarantine, but enough for one launch."""


class Round(NamedTuple):
    """Trials for one Tuner: all get the same share."""

    share: int
    """Multiple of the study's share, a power of two."""
    bundles: list[list[str]]
    """Trials that share an actor; most often one."""

    @property
    def trials(self) -> list[str]:
        return [trial for bundle in self.bundles for trial in bundle]


class Retries:
    """Which trials of a launch are still to run, and with what share."""

    def __init__(
        self,
        trials: Iterable[str],
        most_share: Callable[[], int],
        bundle_of: Callable[[str], Hashable] = lambda trial: trial,
    ) -> None:
        """
        Args:
            trials: ids in the order they should run.
            most_share: asked for the largest multiple of the study's share that some machine can give now.
            bundle_of: a trial's bundle: equal for those that run in one actor. By default each has its own.
        """
        self._waiting: dict[str, int] = dict.fromkeys(trials, 1)
        self._most_share = most_share
        self._bundle_of = bundle_of
        self._bundled: set[str] = set()
        """Trials of the last round that were not alone in their actor."""
        self._apart: set[str] = set()
        """Trials that left their bundle for good."""
        self._crashes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self.given_up: dict[str, str] = {}
        """Trial id to reason: failed as far as this launch goes."""

    def next_round(self) -> Round | None:
        """The waiting trials with the smallest share, or None when nothing is waiting."""
        if not self._waiting:
            return None
        share = min(self._waiting.values())
        bundles: dict[Hashable, list[str]] = {}
        for trial in (trial for trial, wanted in self._waiting.items() if wanted == share):
            bundle = trial if trial in self._apart else self._bundle_of(trial)
            bundles.setdefault(bundle, []).append(trial)
        self._bundled = {trial for bundle in bundles.values() if len(bundle) > 1 for trial in bundle}
        return Round(share, list(bundles.values()))

    def record(self, outcomes: Mapping[str, Outcome], quarantined: set[str]) -> None:
        """Take in how a round's trials ended.

        Args:
            quarantined: ids that the results root's failures quarantine by now.
        """
        for trial, outcome in outcomes.items():
            if outcome.state is State.DONE:
                del self._waiting[trial]
            elif outcome.state is State.FAILED and (reason := self._give_up(trial, outcome, quarantined)):
                del self._waiting[trial]
                self.given_up[trial] = f"{reason}: {outcome.signature}"

    def _give_up(self, trial: str, outcome: Outcome, quarantined: set[str]) -> str | None:
        """Why a failed trial is not tried again in this launch; None when it is."""
        bundled = trial in self._bundled
        if outcome.kind is not FailureKind.INFRASTRUCTURE:
            self._apart.add(trial)
        if outcome.kind is FailureKind.MEMORY:
            if bundled:
                return None
            if self._waiting[trial] * 2 > self._most_share():
                return "out of memory with the largest share that a machine has"
            self._waiting[trial] *= 2
            return None
        if outcome.kind is FailureKind.INFRASTRUCTURE:
            self._crashes[trial] += 1
            return f"its machine failed {MOST_CRASHES} times" if self._crashes[trial] >= MOST_CRASHES else None
        self._errors[trial] += 1
        if trial in quarantined:
            return "failed twice in the same way, quarantined"
        return f"failed {MOST_ERRORS} times" if self._errors[trial] >= MOST_ERRORS else None


FIRST_FAILURES = 5


def all_fail_alike(outcomes: Iterable[Outcome]) -> str | None:
    """The signature, when the first ``FIRST_FAILURES`` outcomes of a launch are all the same own error.

    Then the study, the data or the machine is wrong rather than a trial, and going on wastes money.
    """
    count, signature = 0, None
    for outcome in outcomes:  # asked after every trial: the first that went otherwise ends it
        if outcome.state is State.STOPPED:
            continue
        if outcome.kind is not FailureKind.ERROR or signature not in (None, outcome.signature):
            return None
        count, signature = count + 1, outcome.signature
    return signature if count >= FIRST_FAILURES else None
