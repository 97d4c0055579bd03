"""What Tune runs next: configurations in order, each once, found without scanning those that have ended."""

from types import SimpleNamespace

import pytest

from orchestrator.ray_tune.search import FirstWaiting, InOrder


def test_configurations_come_once_and_in_order() -> None:
    queue = InOrder([{"number": number} for number in range(3)])
    assert [queue.suggest(f"trial-{number}")["number"] for number in range(3)] == [0, 1, 2]
    with pytest.raises(StopIteration):
        queue.suggest("one too many")


def test_the_trial_that_waited_longest_is_next() -> None:
    trials = [SimpleNamespace(status="PENDING") for _ in range(3)]
    scheduler = FirstWaiting()
    assert scheduler.choose_trial_to_run(None) is None
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    assert scheduler.choose_trial_to_run(None) is trials[0]
    assert scheduler.choose_trial_to_run(None) is trials[0], "it waits until it runs"
    trials[0].status, trials[1].status = "TERMINATED", "RUNNING"
    assert scheduler.choose_trial_to_run(None) is trials[2]
    trials[2].status = "ERROR"
    assert scheduler.choose_trial_to_run(None) is None
