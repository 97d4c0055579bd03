"""What is known about the attempts at a trial, what actors keep of their output, and following it while it grows."""

import io
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.results import Store, commit, open_store, record_failure, record_study, write_launch
from jobs.results.failures import Failure, FailureKind
from jobs.results.layout import checkpoint_key, output_key
from jobs.results.local_store import LocalStore
from jobs.study.expand import expand
from jobs.verification.verify import verify
from orchestrator.launching.heartbeat import new_launch
from orchestrator.launching.progress import Tallies
from orchestrator.planning.trial_logs import attempts_of, follow
from orchestrator.planning.trial_names import short_name
from orchestrator.process.tail import MOST_CHARACTERS, Tail, new_part
from orchestrator.ray_tune import actor_output
from orchestrator.ray_tune.actor_output import ActorOutput
from orchestrator.study.load import load_study
from tests.results.rows import result_rows
from tests.support import refused

FIRST, SECOND, *_ = [spec.trial_id for spec in expand(load_study("demo"))]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


def fail(store: Store, trial: str, attempt: int) -> None:
    now = datetime.now(UTC).isoformat()
    record_failure(store, Failure(trial, attempt, FailureKind.ERROR, "ValueError", "no", "h", "l", now), "Traceback: x")


def run(store: Store, *trials: str) -> None:
    write_launch(store, new_launch("demo", "0" * 16)._replace(in_flight=trials))


# --- reading ---


def test_a_trial_that_failed_twice_and_was_done(store: Store) -> None:
    fail(store, FIRST, 1)
    fail(store, FIRST, 2)
    commit(store, "finetune", result_rows(FIRST))
    store.replace(output_key(FIRST, 2), b"printed before it failed\n")
    for name in (FIRST, FIRST[-16:]):
        attempts = attempts_of(store, name)
        assert [each.state for each in attempts] == ["failed", "failed", "done"]
        first, second, done = [each.text() for each in attempts]
        assert "Traceback: x" in first
        assert second.index("printed before it failed") < second.index("Traceback: x")
        assert "test accuracy" in done
        assert len(done.splitlines()) == 1 + len(result_rows(FIRST))


def test_a_running_trial_has_its_checkpoint_and_what_it_printed(store: Store) -> None:
    run(store, FIRST)
    (running,) = attempts_of(store, FIRST)
    assert (running.state, running.attempt, running.output) == ("running", 1, "")
    assert "session_latest/logs" in running.text(), "where to look until its output arrives"
    store.create(checkpoint_key(FIRST, 11, 2, "0" * 16), b"")
    store.replace(output_key(FIRST, 1), b"hello\n")
    (running,) = attempts_of(store, FIRST)
    assert "batch 2 of epoch 11" in running.text()
    assert "hello\n" in running.text()


def test_an_imported_trial_has_neither_attempt_nor_time(store: Store) -> None:
    unknown = dict.fromkeys(("attempt", "seconds", "finished_at", "host", "device_kind", "launch", "packages"))
    commit(store, "finetune", result_rows(FIRST, origin="imported", **unknown))
    (done,) = attempts_of(store, FIRST)
    assert (done.state, done.attempt, done.output) == ("done", 0, "")
    assert "attempt unknown" in done.header
    assert "test accuracy" in done.text()


def test_an_unknown_trial_is_refused(store: Store) -> None:
    run(store, FIRST)
    with refused(Code.NO_ANSWER, SECOND, store.uri, kind=InvalidRequest, file=store.uri, key="TRIAL"):
        attempts_of(store, SECOND)
    with refused(Code.NO_ANSWER, kind=InvalidRequest, key="TRIAL"):
        follow(store, "x", lambda text: None)


def test_a_trial_is_known_by_the_name_that_progress_shows(store: Store) -> None:
    shown = short_name(FIRST)
    assert shown in Tallies(planned=1, names=(FIRST,)).at_work(0.0)
    with refused(Code.NO_ANSWER, "trials list STUDY", "--state running", kind=InvalidRequest, key="TRIAL"):
        attempts_of(store, shown)
    run(store, FIRST)
    assert [each.trial for each in attempts_of(store, shown)] == [FIRST]
    other = f"{FIRST[:-16]}{'0' * 16}"
    fail(store, other, 1)
    with refused(Code.UNKNOWN_NAME, FIRST, other, kind=InvalidRequest, file=store.uri, key="TRIAL"):
        attempts_of(store, shown)


def test_a_finished_trial_is_known_by_that_name_too(store: Store) -> None:
    study = load_study("demo")
    record_study(store, study.name, study.digest, study.resolved())
    commit(store, "finetune", result_rows(FIRST))
    assert [each.state for each in attempts_of(store, short_name(FIRST))] == ["done"]


def test_following_ends_when_nobody_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store, FIRST)
    monkeypatch.setattr("orchestrator.planning.trial_logs.time.sleep", lambda _: None)
    monkeypatch.setattr("orchestrator.planning.trial_logs.nobody_listens", iter([False, True]).__next__)
    text = io.StringIO()
    follow(store, FIRST, text.write)
    assert text.getvalue().count("running in launch") == 1


def test_following_prints_everything_once_until_the_trial_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(_: float) -> Iterator[None]:
        tail.add("second\n")
        store.replace(output_key(FIRST, 1), tail.kept().encode())
        yield
        yield  # nothing new
        tail.add("x" * MOST_CHARACTERS + "\nlast\n")
        store.replace(output_key(FIRST, 1), tail.kept().encode())
        yield
        tail.add("its end\n")
        store.replace(output_key(FIRST, 1), tail.kept().encode())
        commit(store, "finetune", result_rows(FIRST))
        yield

    tail = Tail()
    tail.add("first\n")
    run(store, FIRST)
    store.replace(output_key(FIRST, 1), tail.kept().encode())
    stages = stage(0)
    monkeypatch.setattr("orchestrator.planning.trial_logs.time.sleep", lambda _: next(stages))
    text = io.StringIO()
    follow(store, FIRST, text.write)
    for line in ("first\n", "second\n", "\nlast\n", "its end\n"):
        assert text.getvalue().count(line) == 1
    shown, _, finished = text.getvalue().partition("(done)")
    assert "its end\n" in shown
    assert "test accuracy" in finished


@pytest.mark.parametrize(
    "steps", [[3], [1, 1, 1], [MOST_CHARACTERS, 5], [2 * MOST_CHARACTERS], [10, MOST_CHARACTERS, 7]]
)
def test_parts_of_a_growing_text_join_to_its_kept_end(steps: list[int]) -> None:
    tail, whole, seen, shown = Tail(), "", "", 0
    for number, step in enumerate(steps):
        added = str(number) * step
        tail.add(added)
        whole += added
        new, shown = new_part(tail.kept(), shown)
        seen += new
        assert shown == len(whole)
        assert len(tail.kept()) <= MOST_CHARACTERS + 40
    assert whole.endswith(new)
    if max(steps) <= MOST_CHARACTERS and len(steps) < 3:
        assert seen == whole


# --- writing ---


def test_an_actor_that_prints_nothing_leaves_no_file(store: Store) -> None:
    with ActorOutput(store, {FIRST: 1}) as output:
        output.evaluated(FIRST, result_row())
    assert list(store.keys("logs")) == []


def result_row() -> "Row":
    return Row()


class Row:
    def _asdict(self) -> dict[str, object]:
        return {"epoch": 3, "test_accuracy": 91.25, "pictures": [1]}


def test_what_an_actor_prints_is_kept_and_passed_on(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with ActorOutput(store, {FIRST: 2, SECOND: 1}) as output:
        print("to standard output")
        print("to standard error", file=sys.stderr)
        output.evaluated(FIRST, result_row())
    first, second = (store.read(output_key(trial, attempt)).decode() for trial, attempt in ((FIRST, 2), (SECOND, 1)))
    for text in (first, second):
        assert "to standard output\n" in text
        assert "to standard error\n" in text
        assert f"process {os.getpid()}" in text
    assert "epoch 3, test accuracy 91.25" in first
    assert "epoch 3" not in second
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("to standard output\n", "to standard error\n")
    print("later")
    assert "later" not in store.read(output_key(FIRST, 2)).decode()
    assert [finding for finding in verify(store) if finding.key.startswith("logs/")] == []


def test_a_long_attempt_is_written_while_it_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_output, "SECONDS", 0.02)
    with ActorOutput(store, {FIRST: 1}):
        deadline = time.monotonic() + 30
        while not list(store.keys("logs")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "attempt 1 on" in store.read(output_key(FIRST, 1)).decode()


def test_a_root_that_fails_does_not_fail_a_trial_because_of_its_log(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFailure(Code.STORAGE, "it is full")

    monkeypatch.setattr(LocalStore, "replace", full)
    with ActorOutput(store, {FIRST: 1}):
        print("anything")


def test_an_error_of_a_trial_passes_and_its_output_is_kept(store: Store) -> None:
    def fail() -> None:
        with ActorOutput(store, {FIRST: 1}):
            print("before")
            raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        fail()
    assert "before" in store.read(output_key(FIRST, 1)).decode()
