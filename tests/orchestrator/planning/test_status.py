"""Status: every trial of a study is in exactly one state, and the states add up to the plan."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from jobs.errors import Code, InvalidRequest
from jobs.results import (
    Failure,
    FailureKind,
    Launch,
    Store,
    commit,
    compact,
    record_failure,
    record_study,
    write_launch,
)
from jobs.results.layout import trial_key
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching.local import run_locally
from orchestrator.planning.dependencies import completion_of
from orchestrator.planning.gpus import gpu
from orchestrator.planning.plan import make_plan
from orchestrator.planning.status import describe, status_of
from orchestrator.planning.trial_logs import attempts_of
from orchestrator.study.history import recorded_study
from orchestrator.study.load import parse_study
from tests.results.rows import DEVICE_KIND, result_rows
from tests.support import refused

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

STUDY = """
name: {name}
grid: {{source: [fmnist_natural], dataset: [digits], blocks: [0]}}
schedule:
  - {{images: [50], epochs: 3, seeds: 6, evaluate_every: 1}}
"""


@pytest.fixture
def study() -> Study:
    return parse_study(STUDY.format(name="states"), "states.yaml")


def launched(study: Study, name: str, heartbeat_at: datetime, **changes: Any) -> Launch:
    moment = heartbeat_at.isoformat()
    return Launch(name, study.name, study.digest, "ada", "node7", moment, "0", {}, moment)._replace(**changes)


def failure(trial: str, attempt: int, kind: FailureKind = FailureKind.ERROR, reason: str = "wrong") -> Failure:
    return Failure(trial, attempt, kind, "ValueError", reason, "node7", "l", NOW.isoformat())


def test_trials_of_several_kinds_of_device_are_counted(study: Study, store: Store) -> None:
    pure, mixed, updated, _, _, _ = (spec.trial_id for spec in expand(study))
    commit(store, "finetune", result_rows(pure))
    commit(store, "finetune", result_rows(mixed, device_kind=f"{DEVICE_KIND} -> another"))
    commit(store, "finetune", result_rows(updated, packages='{"torch": "2.14.1"} -> {"torch": "2.15.0"}'))
    commit(store, "finetune", result_rows("finetune-of-another-study-0123456789abcdef", device_kind="a -> b"))
    status = status_of(store, study, NOW)
    assert status.counts()["mixed"] == 2
    assert "2 of the done trials ran on several kinds of device" in describe(status)
    compact(store, "finetune")
    assert status_of(store, study, NOW) == status


def test_without_mixed_trials_nothing_is_said_of_them(study: Study, store: Store) -> None:
    commit(store, "finetune", result_rows(expand(study)[0].trial_id))
    status = status_of(store, study, NOW)
    assert status.counts()["mixed"] == 0
    assert "kinds of device" not in describe(status)


def test_states_are_told_apart_and_add_up(study: Study, store: Store) -> None:
    done, running, once, twice, crashed, pending = (spec.trial_id for spec in expand(study))
    store.create(trial_key("finetune", done), b"PAR1 looks whole\4\0\0\0PAR1")
    record_failure(store, failure(done, 1), "log")
    write_launch(store, launched(study, "1", NOW - timedelta(seconds=30), in_flight=(running, done, "foreign")))
    record_failure(store, failure(once, 1), "log")
    for attempt in (1, 2):
        record_failure(store, failure(twice, attempt), "log")
        record_failure(store, failure(crashed, attempt, FailureKind.INFRASTRUCTURE), "log")
    status = status_of(store, study, NOW)
    assert (status.done, status.running, status.quarantined) == ({done}, {running}, {twice})
    assert set(status.failed) == {once, crashed}
    assert status.pending == 1
    counts = status.counts()
    assert counts["mixed"] is None, "a result that cannot be read keeps no state from being told"
    assert f"{trial_key('finetune', done)}" in describe(status)
    states = [counts[state] for state in ("done", "running", "pending", "failed", "quarantined")]
    assert sum(int(str(state)) for state in states) == counts["planned"] == 6
    text = describe(status)
    assert f"deltasweep logs {twice}" in text
    assert "node7" in text
    assert pending not in text


def test_errors_that_differ_are_no_quarantine(study: Study, store: Store) -> None:
    trial = expand(study)[0].trial_id
    for attempt, reason in enumerate(["a", "b", "a"], start=1):
        record_failure(store, failure(trial, attempt, reason=reason), "log")
    assert status_of(store, study, NOW).quarantined == set()
    record_failure(store, failure(trial, 4, reason="a"), "log")
    assert status_of(store, study, NOW).quarantined == {trial}


def test_crashes_between_two_equal_errors_do_not_hide_them(study: Study, store: Store) -> None:
    trial = expand(study)[0].trial_id
    record_failure(store, failure(trial, 1), "log")
    record_failure(store, failure(trial, 2, FailureKind.INFRASTRUCTURE, "gone"), "log")
    record_failure(store, failure(trial, 3), "log")
    assert status_of(store, study, NOW).quarantined == {trial}


@pytest.mark.parametrize(("silent", "alive"), [(89, True), (91, False)])
def test_a_launch_is_stale_after_ninety_seconds(silent: int, alive: bool, study: Study, store: Store) -> None:
    trial = expand(study)[0].trial_id
    write_launch(store, launched(study, "1", NOW - timedelta(seconds=silent), in_flight=(trial,)))
    status = status_of(store, study, NOW)
    assert (status.running == {trial}) is alive
    assert (len(status.live), len(status.stale)) == ((1, 0) if alive else (0, 1))
    assert status.pending == (5 if alive else 6)


@pytest.mark.parametrize(("ahead", "state"), [(1800, "running"), (7200, "stale")])
def test_a_heartbeat_in_the_future_is_told(ahead: int, state: str, study: Study, store: Store) -> None:
    write_launch(store, launched(study, "1", NOW + timedelta(seconds=ahead)))
    (line,) = [line for line in describe(status_of(store, study, NOW)).splitlines() if line.startswith(f"{state}:")]
    assert f"{ahead:,} s in the future: synchronize the clock" in line
    write_launch(store, launched(study, "1", NOW + timedelta(seconds=20)))
    assert "clock" not in describe(status_of(store, study, NOW))


def test_a_launch_that_said_goodbye_is_neither_live_nor_stale(study: Study, store: Store) -> None:
    write_launch(store, launched(study, "1", NOW, ended_at=NOW.isoformat(), in_flight=("x",)))
    status = status_of(store, study, NOW)
    assert (status.live, status.stale, status.running) == ([], [], set())


def test_the_latest_launch_decides_which_study(study: Study, store: Store) -> None:
    other = parse_study(STUDY.format(name="other"), "other.yaml")
    for number, (which, moment) in enumerate([(other, NOW), (study, NOW), (other, NOW)]):
        record_study(store, which.name, which.digest, which.resolved())
        write_launch(store, launched(which, str(number), moment))
    assert recorded_study(store, None) == other
    assert recorded_study(store, "states") == study
    with refused(Code.UNKNOWN_NAME, "'nope'", "other, states", kind=InvalidRequest, file=store.uri, key="--study"):
        recorded_study(store, "nope")


def test_a_study_that_was_only_run_trial_by_trial_is_known(study: Study, store: Store) -> None:
    """As by a job array, which launches nothing."""
    record_study(store, study.name, study.digest, study.resolved())
    assert recorded_study(store, None) == recorded_study(store, "states") == study
    with refused(Code.UNKNOWN_NAME, "'nope'", "states", kind=InvalidRequest, file=store.uri, key="--study"):
        recorded_study(store, "nope")
    other = parse_study(STUDY.format(name="other"), "other.yaml")
    record_study(store, other.name, other.digest, other.resolved())
    assert recorded_study(store, "states") == study
    with refused(Code.UNKNOWN_NAME, "other, states", kind=InvalidRequest, file=store.uri, key="--study"):
        recorded_study(store, None)
    write_launch(store, launched(other, "1", NOW))
    assert (recorded_study(store, None), recorded_study(store, "states")) == (other, study)
    longer = parse_study(STUDY.format(name="states").replace("seeds: 6", "seeds: 7"), "states.yaml")
    record_study(store, longer.name, longer.digest, longer.resolved())
    with refused(Code.UNKNOWN_NAME, "2 versions", kind=InvalidRequest, file=store.uri, key="--study"):
        recorded_study(store, "states")


def test_an_empty_root_says_how_to_begin(store: Store) -> None:
    command = f"deltasweep launch STUDY --results {store.uri}"
    with refused(Code.NO_ROOT, command, kind=InvalidRequest, file=store.uri, key="--results"):
        recorded_study(store, None)


def test_logs_are_found_by_id_or_hash(study: Study, store: Store) -> None:
    trial = expand(study)[0].trial_id
    record_failure(store, failure(trial, 1), "Traceback: the log")
    for name in (trial, trial[-16:]):
        (attempt,) = attempts_of(store, name)
        text = attempt.text()
        assert "attempt 1" in text
        assert "Traceback: the log" in text
    with refused(Code.NO_ANSWER, "'nope'", kind=InvalidRequest, file=store.uri, key="TRIAL"):
        attempts_of(store, "nope")


TORN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[:-1],
    "its beginning": lambda data: data[: len(data) // 2],
    "its end": lambda data: data[1:],
    "text": lambda data: b"any result",
    "blank": lambda data: bytes(len(data)),
    "a mark alone": lambda data: b"PAR1",
    "two marks": lambda data: b"PAR1" + b"\xff" * 4 + b"PAR1",
}


@pytest.mark.parametrize("damage", TORN)
def test_a_result_that_is_torn_is_not_done_and_everybody_says_so(damage: str, study: Study, store: Store) -> None:
    """The trial cannot be run while the file exists, because a result is never overwritten."""
    specs = {spec.trial_id: spec for spec in expand(study)}
    torn, done, *others = specs
    for trial in (torn, done):
        commit(store, "finetune", result_rows(trial))
    key = trial_key("finetune", torn)
    whole = store.read(key)
    store.replace(key, TORN[damage](whole))
    for thorough in (True, False):
        status = status_of(store, study, NOW, thorough=thorough)
        counts = status.counts()
        assert (counts["done"], counts["damaged"], counts["pending"]) == (1, 1, len(others))
        assert f"{store.uri}/{key}" in describe(status)
    known = completion_of(store, specs)
    assert (known.done, set(known.damaged)) == ({done}, {torn})
    plan = make_plan(study, specs.values(), known.done, set(), gpu(), damaged=known.damaged)
    assert (plan.done, plan.damaged, plan.pending) == (1, 1, len(others))
    file = f"{store.uri}/{key}"
    with refused(Code.DAMAGED_RESULT, file, file=file):
        run_locally(study, torn, store, Console(quiet=True))
    store.delete(key)
    assert status_of(store, study, NOW).counts()["pending"] == 1 + len(others)
    store.create(key, whole)
    assert status_of(store, study, NOW).counts()["done"] == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\x85", "\v"])
def test_no_record_begins_a_line_of_its_own(end: str, study: Study, store: Store) -> None:
    """Hosts, users and reasons come from other machines."""
    forged = f"x{end}quarantined: forged"
    failing = expand(study)[0].trial_id
    record_failure(store, failure(failing, 1, reason=forged)._replace(host=forged), "")
    for name, moment in (("l1", NOW), ("l2", NOW - timedelta(days=1))):
        write_launch(store, launched(study, name, moment, host=forged, user=forged))
    said = describe(status_of(store, study, NOW))
    (attempt,) = attempts_of(store, failing)
    for text in (said, attempt.text()):
        assert "forged" in text
        assert not [line for line in text.splitlines() if line.startswith("quarantined")]


def test_a_failure_of_an_id_without_hash_is_looked_through(study: Study, store: Store) -> None:
    record_failure(store, failure("nodash", 1), "its log")
    assert len(attempts_of(store, "nodash")) == 1
    with refused(Code.NO_ANSWER, "nope", kind=InvalidRequest, key="TRIAL"):
        attempts_of(store, "nope")
