"""Any interleaving of commits, crashes, compactions, index deletions and reads: each trial is present exactly once."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobs.results import Committed, Store, commit, compact, done, read_trials, uncovered
from jobs.results.layout import CURRENT
from tests.results.support import KIND, DyingStore, InterruptedStore, Killed, MemoryStore, held, once, rows, trial

NUMBERS = st.integers(0, 5)
STEPS = st.integers(0, 14)


class Root(RuleBasedStateMachine):
    """A results root under arbitrary operations; ``committed`` is its expected content."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.committed: set[int] = set()

    @rule(number=NUMBERS)
    def commit(self, number: int) -> None:
        expected = Committed.ALREADY_THERE if number in self.committed else Committed.NEW
        assert commit(self.store, KIND, rows(number)) is expected
        self.committed.add(number)

    @rule(number=NUMBERS, step=STEPS, after=st.booleans())
    def crash_in_a_commit(self, number: int, step: int, after: bool) -> None:
        self.crash(lambda store: commit(store, KIND, rows(number)), step, after)
        if trial(number) in done(self.store, KIND):
            self.committed.add(number)

    @rule()
    def compact(self) -> None:
        assert compact(self.store, KIND).trials == len(self.committed)
        assert uncovered(self.store, KIND) == 0

    @rule(step=STEPS, after=st.booleans())
    def crash_in_a_compaction(self, step: int, after: bool) -> None:
        self.crash(lambda store: compact(store, KIND), step, after)

    @rule(step=STEPS, number=NUMBERS)
    def another_compactor_and_a_commit_come_in_between(self, step: int, number: int) -> None:
        def interrupt() -> None:
            compact(self.store, KIND)
            commit(self.store, KIND, rows(number))

        compact(InterruptedStore(self.store, step, interrupt), KIND)
        if trial(number) in done(self.store, KIND):
            self.committed.add(number)

    @rule(step=STEPS, number=NUMBERS)
    def a_commit_and_a_compaction_come_into_a_reading(self, step: int, number: int) -> None:
        def interrupt() -> None:
            commit(self.store, KIND, rows(number))
            compact(self.store, KIND)

        before = once(self.committed)
        found = held(read_trials(InterruptedStore(self.store, step, interrupt), KIND))
        if trial(number) in done(self.store, KIND):
            self.committed.add(number)
        assert found in (before, once(self.committed))

    @rule(everything=st.booleans())
    def delete_the_index(self, everything: bool) -> None:
        self.store.delete(CURRENT)
        for key in list(self.store.keys("compact")) if everything else []:
            self.store.delete(key)

    @invariant()
    def each_trial_is_there_once(self) -> None:
        assert done(self.store, KIND) == {trial(number) for number in self.committed}
        assert held(read_trials(self.store, KIND)) == once(self.committed)
        assert list(self.store.keys("conflicts")) == []

    def crash(self, action: Callable[[Store], object], step: int, after: bool) -> None:
        try:
            action(DyingStore(self.store, step, after))
        except Killed:
            return


Root.TestCase.settings = settings(max_examples=30, stateful_step_count=12, deadline=None)
TestRoot = Root.TestCase
