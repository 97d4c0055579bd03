"""Classification of failures with real actors: a trial's own error, the machine's memory, an error of all trials."""

from collections.abc import Callable

import pytest

from jobs.results import Failure, FailureKind, open_store, quarantined, read_failures
from tests.durability.clusters import TestCluster
from tests.durability.sweep import Rows, Sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SOME_FAILED = 1


@pytest.mark.slow(240)
@pytest.mark.parametrize("sweep", [{"images": (75,)}], indirect=True, ids=["six"])
def test_own_errors_and_memory(sweep: Sweep, make_cluster: Callable[[int], TestCluster], reference: Rows) -> None:
    """One trial always raises and is quarantined; one needs the memory of two CPUs and gets it; the rest continue."""
    broken, large = sorted(sweep.specs)[1], sorted(sweep.specs)[4]
    too_large = {"trial": large, "epoch": 5, "error": "MemoryError", "below_cpus": 2}
    sweep.disturb(0.03, [{"trial": broken, "epoch": 4, "error": "ValueError"}, too_large])
    cluster = make_cluster(2)
    run = sweep.start("launch", "--address", cluster.address)
    assert run.wait() == SOME_FAILED, run.text
    assert f"failed: {broken}: " in run.text
    assert sweep.done() == sweep.specs.keys() - {broken}
    assert [(f.trial_id, f.kind) for f in _failures(sweep, broken)] == [(broken, FailureKind.ERROR)] * 2
    assert [(f.trial_id, f.kind) for f in _failures(sweep, large)] == [(large, FailureKind.MEMORY)]
    assert quarantined(read_failures(open_store(str(sweep.root))), after=2) == {broken}
    counts = sweep.status()
    assert (counts["done"], counts["quarantined"], counts["failed"]) == (len(sweep.specs) - 1, 1, 0), counts
    log = sweep.say("logs", broken)
    assert log.count("ValueError: raised by the test in epoch 4") >= 2
    assert "Traceback (most recent call last)" in log
    assert "_train_batch" in log

    sweep.disturb(0)
    leave = sweep.start("resume", "--address", cluster.address)
    assert leave.wait() == SOME_FAILED, leave.text
    assert broken in leave.text
    assert broken not in sweep.done()
    again = sweep.start("resume", "--retry-quarantined", "--address", cluster.address)
    assert again.wait() == 0, again.text
    sweep.require_same_as(reference)


@pytest.mark.slow(100)
def test_all_trials_fail_alike(sweep: Sweep, make_cluster: Callable[[int], TestCluster]) -> None:
    """All trials fail, and the launch stops before it has tried the whole study."""
    sweep.disturb(0.1, [{"trial": "*", "epoch": 1, "error": "ValueError"}])
    run = sweep.start("launch", "--address", make_cluster(2).address)
    assert run.wait() == SOME_FAILED, run.text
    assert "all failed with the same error: ValueError: raised by the test in epoch 1" in run.text
    tried = {b.trial for b in sweep.trace()}
    assert 5 <= len(tried) <= 8, f"{len(tried)} of {len(sweep.specs)} trials were tried"
    assert not sweep.done()
    counts = sweep.status()
    assert counts["failed"] + counts["quarantined"] == len({f.trial_id for f in _failures(sweep)}), counts


def _failures(sweep: Sweep, trial: str | None = None) -> list[Failure]:
    return [f for f in read_failures(open_store(str(sweep.root))) if trial in (None, f.trial_id)]
