"""Two launches on one root share the work: what one has finished, the other does not run again."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.execution.bundles import attempt_bundle
from jobs.execution.commit import is_committed
from jobs.results import Store, open_store, read_launches, with_weights, write_launch
from jobs.results.layout import launch_key, trained_weights_key, trial_key
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching.heartbeat import new_launch
from orchestrator.launching.launch import launch
from orchestrator.launching.local import run_locally
from orchestrator.ray_tune import trainable, tuner
from orchestrator.study.load import parse_study
from tests.orchestrator.in_process import replace_ray

pytestmark = pytest.mark.usefixtures("short_tests")

QUIET = Console(quiet=True)
STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 3, evaluate_every: 1}]
"""


def study(more: str = "") -> Study:
    return parse_study(STUDY + more, "mini.yaml")


TRIALS = [spec.trial_id for spec in expand(study())]


@pytest.fixture(autouse=True)
def _without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_ray(monkeypatch, tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


def meanwhile(monkeypatch: pytest.MonkeyPatch, root: Store, others: Study) -> list[str]:
    """Let another process finish all other trials while the first one runs; return the trials that a launch ran."""
    ran = list[str]()

    def attempt(store: Store, specs: Sequence[TrialSpec], *rest: Any) -> Any:
        ran.extend(spec.trial_id for spec in specs)
        if len(ran) == 1:
            for trial in TRIALS:
                if trial not in ran:
                    run_locally(others, trial, root, QUIET)
        return attempt_bundle(store, specs, *rest)

    monkeypatch.setattr(trainable, "attempt_bundle", attempt)
    return ran


def test_what_another_launch_has_finished_is_done(root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = meanwhile(monkeypatch, root, study())
    summary = launch(study(), root, QUIET)
    assert (summary.done, summary.failed, len(ran)) == (3, {}, 1)
    assert list(root.keys("conflicts")) == []


def test_weights_that_another_launch_has_not_kept_are_trained(root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = meanwhile(monkeypatch, root, study())
    assert launch(study("keep_weights: true\n"), root, QUIET).done == 3
    assert (len(ran), with_weights(root)) == (3, set(TRIALS))


def test_weights_that_another_launch_has_kept_are_not_trained_again(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = meanwhile(monkeypatch, root, study("keep_weights: true\n"))
    assert launch(study("keep_weights: true\n"), root, QUIET).done == 3
    assert (len(ran), with_weights(root)) == (1, set(TRIALS))


def test_only_a_whole_result_is_done(root: Store) -> None:
    spec, other, _ = expand(study())
    keeps = study("keep_weights: true\n")
    assert not is_committed(root, spec, keeps.catalog)
    run_locally(keeps, spec.trial_id, root, QUIET)
    assert is_committed(root, spec, keeps.catalog)
    assert is_committed(root, spec, keeps.catalog, weights=True)
    root.delete(trained_weights_key(spec.trial_id))
    assert is_committed(root, spec, keeps.catalog)
    assert not is_committed(root, spec, keeps.catalog, weights=True)
    whole = root.read(trial_key(spec.kind, spec.trial_id))
    root.create(trial_key(other.kind, other.trial_id), whole[:-10])
    assert not is_committed(root, other, keeps.catalog)


def test_what_another_launch_has_finished_is_not_missing(root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Tune ends a round without the outcomes of trials that stand in the root meanwhile."""
    run_round, states = tuner.run_round, list[Any]()

    def ends_early(bundles: Sequence[Sequence[TrialSpec]], *rest: Any) -> None:
        states.append(rest[-1])
        run_round(bundles[:1], *rest)
        for specs in bundles[1:]:
            run_locally(study(), specs[0].trial_id, root, QUIET)

    monkeypatch.setattr(tuner, "run_round", ends_early)
    summary = launch(study(), root, QUIET)
    assert (summary.status, summary.done, summary.stop) == ("done", 3, None)
    assert [state.stop for state in states] == [None]


def orders_of(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Run no trials; return the orders in which launches would have run them."""
    orders = list[list[str]]()

    def run_round(bundles: Sequence[Sequence[TrialSpec]], job: object, share: object, state: Any) -> None:
        orders.append([spec.trial_id for specs in bundles for spec in specs])

    monkeypatch.setattr(tuner, "run_round", run_round)
    return orders


def launched(root: Store, name: str, digest: str, **begun: float) -> None:
    """Write the record of a launch that runs, and began this long ago."""
    begun_at = (datetime.now(UTC) - timedelta(**begun)).isoformat()
    write_launch(root, new_launch("another", digest)._replace(launch=name, started_at=begun_at))


@pytest.mark.parametrize("bundle", ["none", "blocks"])
def test_the_second_begins_at_the_other_end(bundle: str, root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise both would run the same trials at the same time, one after another."""
    orders, this = orders_of(monkeypatch), study(f"bundle: {bundle}\n")
    launch(this, root, QUIET)
    launched(root, "a", this.digest, minutes=5)
    launch(this, root, QUIET)
    first, second = orders
    assert sorted(first) == sorted(TRIALS)
    assert second == first[::-1]


def test_the_third_goes_neither_with_the_first_nor_with_the_second(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = orders_of(monkeypatch)
    for name in (None, "a", "b"):
        if name is not None:
            launched(root, name, study().digest, minutes=5)
        launch(study(), root, QUIET)
    assert len({order[0] for order in orders}) == 3


def test_of_two_that_begin_together_one_begins_at_the_other_end(root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds the other, whichever wrote its record first, and the two do not both give way."""
    orders = orders_of(monkeypatch)
    launch(study(), root, QUIET)
    for seconds in (20, -20):
        monkeypatch.setattr(tuner, "connect", lambda _: launched(root, "a", study().digest, seconds=seconds))  # noqa: B023
        launch(study(), root, QUIET)
        root.delete(launch_key("a"))
    alone, later, earlier = orders
    assert (earlier, later) == (alone, alone[::-1])


def test_one_that_ended_meanwhile_leaves_two_others_different_orders(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second gave way to the first, which the third does not find any more."""
    orders = list[list[str]]()

    def run_round(bundles: Sequence[Sequence[TrialSpec]], *rest: Any) -> None:
        orders.append([spec.trial_id for specs in bundles for spec in specs])
        if len(orders) == 1:
            root.delete(launch_key("a"))
            launch(study(), open_store(root.uri), QUIET)

    monkeypatch.setattr(tuner, "run_round", run_round)
    launched(root, "a", study().digest, minutes=5)
    launch(study(), root, QUIET)
    second, third = orders
    assert third == second[::-1]
    assert [record.place for record in read_launches(root)] == [None, None], "they have ended"


def test_a_launch_of_other_trials_changes_no_order(root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    orders, said = orders_of(monkeypatch), Console(record=True, file=StringIO(), width=1000)
    launch(study(), root, QUIET)
    launched(root, "a", "0123", minutes=5)
    launch(study(), root, said)
    assert orders[0] == orders[1]
    assert "runs the same trials" not in said.export_text()


def test_when_another_was_last_heard_is_told(root: Store) -> None:
    """It may have been killed: nobody can tell for the first 90 s."""
    said = Console(record=True, file=StringIO(), width=1000)
    heard = (datetime.now(UTC) - timedelta(seconds=50)).isoformat()
    dead = new_launch("mini", study().digest)._replace(launch="a", started_at=heard, heartbeat_at=heard)
    write_launch(root, dead)
    launch(study(), root, said)
    (line,) = [line for line in said.export_text().splitlines() if "launch a " in line]
    assert re.search(r"runs the same trials \(last heard [5-8]\d s ago\)", line)


def test_a_torn_record_of_another_launch_stops_none(root: Store) -> None:
    root.create(launch_key("20260101T000000Z-01234567"), b"{")
    assert launch(study(), root, QUIET).done == 3
