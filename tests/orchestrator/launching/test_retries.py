"""What a launch retries and what it gives up: the table in docs/explanation/architecture.md."""

from functools import partial

from jobs.results import FailureKind
from orchestrator.failures.outcomes import Outcome, State
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.launching.retries import LargestShares, Retries, all_fail_alike

POLICY = RetryPolicy()
DONE = Outcome(State.DONE)
STOPPED = Outcome(State.STOPPED)
CRASH = Outcome(State.FAILED, (), FailureKind.INFRASTRUCTURE, "ActorDied: gone")
MEMORY = Outcome(State.FAILED, (), FailureKind.MEMORY, "OutOfMemoryError: full")


def error(reason: str = "wrong") -> Outcome:
    return Outcome(State.FAILED, (), FailureKind.ERROR, f"ValueError: {reason}")


def trials_of(retries: Retries) -> tuple[int, list[str]] | None:
    this = retries.next_round()
    return (this.share, this.trials) if this else None


def test_done_trials_leave_and_order_is_kept() -> None:
    retries = Retries(["c", "a", "b"], POLICY, largest_share=lambda: 1)
    assert trials_of(retries) == (1, ["c", "a", "b"])
    retries.record({"a": DONE}, set())
    assert trials_of(retries) == (1, ["c", "b"])
    retries.record({"b": DONE, "c": DONE}, set())
    assert retries.next_round() is None
    assert retries.given_up == {}


def test_a_stopped_trial_is_run_again_without_charge() -> None:
    retries = Retries(["a"], POLICY, largest_share=lambda: 1)
    for _ in range(50):
        retries.record({"a": STOPPED}, set())
    assert trials_of(retries) == (1, ["a"])


def test_crashes_are_tried_again_up_to_the_cap() -> None:
    retries = Retries(["a"], POLICY, largest_share=lambda: 1)
    for _ in range(POLICY.infrastructure_failures - 1):
        retries.record({"a": CRASH}, set())
    assert trials_of(retries) == (1, ["a"])
    retries.record({"a": CRASH}, set())
    assert retries.next_round() is None
    assert "ActorDied" in retries.given_up["a"]


def test_out_of_memory_doubles_the_share_after_the_others_until_nothing_is_larger() -> None:
    retries = Retries(["a", "b"], POLICY, largest_share=lambda: 4)
    retries.record({"a": MEMORY}, set())
    assert trials_of(retries) == (1, ["b"])
    retries.record({"b": DONE}, set())
    assert trials_of(retries) == (2, ["a"])
    retries.record({"a": MEMORY}, set())
    assert trials_of(retries) == (4, ["a"])
    retries.record({"a": MEMORY}, set())
    assert retries.next_round() is None
    assert "largest share" in retries.given_up["a"]


def test_a_round_says_whether_any_of_its_trials_ran_out_of_memory() -> None:
    """Its actors then keep no images on their GPUs."""
    retries = Retries(["a", "b"], POLICY, largest_share=lambda: 2)
    rounds = []
    for outcomes in ({"a": CRASH, "b": STOPPED}, {"a": MEMORY, "b": CRASH}, {"b": DONE}, {"a": DONE}):
        this = retries.next_round()
        assert this is not None
        rounds.append((this.share, this.trials, this.after_memory))
        retries.record(outcomes, set())
    assert rounds == [(1, ["a", "b"], False), (1, ["a", "b"], False), (1, ["b"], False), (2, ["a"], True)]


def test_out_of_memory_without_a_machine_waits_for_one() -> None:
    """As in a cluster whose workers come only when trials wait for them."""
    retries = Retries(["a"], POLICY, largest_share=lambda: 0)
    assert trials_of(retries) == (1, ["a"])
    retries.record({"a": MEMORY}, set())
    assert trials_of(retries) == (2, ["a"])


def test_a_cluster_that_shrank_is_waited_for() -> None:
    now = iter([4, 0, 2, 4])
    largest = LargestShares([lambda: next(now)])
    retries = Retries(["a"], POLICY, partial(largest.of, 0))
    largest.look()
    for share in (1, 2, 4):
        assert trials_of(retries) == (share, ["a"])
        retries.record({"a": MEMORY}, set())
    assert retries.next_round() is None
    assert "largest share" in retries.given_up["a"]


def test_a_machine_that_was_there_in_an_earlier_stage_counts() -> None:
    machine = {"CPU": 8}
    largest = LargestShares([lambda: machine["CPU"] // 1, lambda: machine["CPU"] // 4])
    largest.look()
    machine["CPU"] = 4
    assert [largest.of(0), largest.of(1)] == [8, 2]


def bundles_of(retries: Retries) -> tuple[int, list[list[str]]] | None:
    this = retries.next_round()
    return (this.share, this.bundles) if this else None


def bundled(*trials: str) -> Retries:
    """Trials that share an actor if their names begin with the same letter."""
    return Retries(trials, POLICY, lambda: 2, lambda trial: trial[0])


def test_bundles_stand_where_their_first_trial_does() -> None:
    retries = bundled("a1", "b1", "a2", "c1")
    assert bundles_of(retries) == (1, [["a1", "a2"], ["b1"], ["c1"]])
    retries.record({"a1": DONE, "b1": STOPPED}, set())
    assert bundles_of(retries) == (1, [["b1"], ["a2"], ["c1"]])


def test_out_of_memory_splits_a_bundle_before_the_share_is_doubled() -> None:
    retries = bundled("a1", "a2", "a3")
    assert bundles_of(retries) == (1, [["a1", "a2", "a3"]])
    retries.record({"a1": MEMORY, "a2": MEMORY, "a3": STOPPED}, set())
    assert bundles_of(retries) == (1, [["a1"], ["a2"], ["a3"]])
    retries.record({"a1": MEMORY, "a2": DONE, "a3": DONE}, set())
    assert bundles_of(retries) == (2, [["a1"]])
    retries.record({"a1": MEMORY}, set())
    assert retries.next_round() is None
    assert "largest share" in retries.given_up["a1"]


def test_a_bundle_that_is_left_with_one_trial_doubles_its_share() -> None:
    retries = bundled("a1", "a2")
    assert bundles_of(retries) == (1, [["a1", "a2"]])
    retries.record({"a1": DONE, "a2": STOPPED}, set())
    assert bundles_of(retries) == (1, [["a2"]])
    retries.record({"a2": MEMORY}, set())
    assert bundles_of(retries) == (2, [["a2"]])


def test_a_trial_that_fails_by_its_own_error_is_tried_again_alone() -> None:
    retries = bundled("a1", "a2", "a3")
    assert bundles_of(retries) == (1, [["a1", "a2", "a3"]])
    retries.record({"a1": STOPPED, "a2": error(), "a3": STOPPED}, set())
    assert bundles_of(retries) == (1, [["a1", "a3"], ["a2"]])
    retries.record({"a1": DONE, "a2": error(), "a3": DONE}, {"a2"})
    assert retries.next_round() is None
    assert "quarantined" in retries.given_up["a2"]


def test_a_crash_leaves_a_bundle_together() -> None:
    retries = bundled("a1", "a2")
    retries.next_round()
    retries.record({"a1": CRASH, "a2": CRASH}, set())
    assert bundles_of(retries) == (1, [["a1", "a2"]])


def test_an_own_error_is_tried_once_more_then_quarantined() -> None:
    retries = Retries(["a"], POLICY, largest_share=lambda: 1)
    retries.record({"a": error()}, set())
    assert trials_of(retries) == (1, ["a"])
    retries.record({"a": error()}, {"a"})
    assert retries.next_round() is None
    assert "quarantined" in retries.given_up["a"]


def test_errors_that_differ_end_after_a_few() -> None:
    retries = Retries(["a"], POLICY, largest_share=lambda: 1)
    for number in range(POLICY.own_errors):
        assert retries.next_round() is not None
        retries.record({"a": error(str(number))}, set())
    assert retries.next_round() is None
    assert f"failed {POLICY.own_errors} times" in retries.given_up["a"]


def test_a_launch_stops_when_the_first_trials_all_fail_alike() -> None:
    assert all_fail_alike([error()] * (POLICY.alike_failures - 1), POLICY) is None
    assert all_fail_alike([error()] * POLICY.alike_failures, POLICY) == "ValueError: wrong"
    assert all_fail_alike([STOPPED] + [error()] * POLICY.alike_failures, POLICY) == "ValueError: wrong"


def test_a_launch_goes_on_when_any_was_done_failed_otherwise_or_crashed() -> None:
    assert all_fail_alike([*[error()] * POLICY.alike_failures, DONE], POLICY) is None
    assert all_fail_alike([*[error()] * POLICY.alike_failures, error("other")], POLICY) is None
    assert all_fail_alike([CRASH] * POLICY.alike_failures, POLICY) is None
    assert all_fail_alike([*[error()] * POLICY.alike_failures, CRASH], POLICY) is None
