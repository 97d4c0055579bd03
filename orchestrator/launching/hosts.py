"""Detection of machines on which every trial fails. Pure bookkeeping, no Ray."""

import itertools
from collections import defaultdict
from collections.abc import Mapping

from jobs.results import FailureKind
from orchestrator.failures.outcomes import Outcome, State
from orchestrator.failures.retry_policy import RetryPolicy


class HostFailures:
    """Tracks which trials have failed on each machine for infrastructure reasons since one was done there."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._events = itertools.count(1)
        self._began: dict[str, int] = {}
        """When each run of an actor started, as the number of an event."""
        self._counted: dict[str, int] = {}
        """When the last failure that counts was reported from each host."""
        self._failed: defaultdict[str, set[str]] = defaultdict(set)

    def started(self, run: str) -> None:
        self._began[run] = next(self._events)

    def ended(self, run: str, outcomes: Mapping[str, Outcome]) -> str | None:
        """Return the host of a run that has ended, if too many trials have now failed there one after another."""
        began = self._began.pop(run, 0)
        host = next((outcome.host for outcome in outcomes.values()), "")
        if not host:
            return None
        if any(outcome.state is State.DONE for outcome in outcomes.values()):
            self._failed[host].clear()
            return None
        failed = [trial for trial, outcome in outcomes.items() if outcome.kind is FailureKind.INFRASTRUCTURE]
        if not failed or began < self._counted.get(host, 0):
            return None
        self._counted[host] = next(self._events)
        self._failed[host].add(failed[0])  # a bundle counts as one trial
        return host if len(self._failed[host]) >= self._policy.host_failures else None
