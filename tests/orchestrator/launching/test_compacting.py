"""A launch compacts results without delaying its heartbeat, and reports once what prevents it."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.errors import Code, DamagedFile
from jobs.results import Store, open_store, write_launch
from orchestrator.failures.outcomes import StopCause
from orchestrator.launching import compacting, heartbeat
from orchestrator.launching.compacting import COMPACT_FROM, Compacting
from orchestrator.launching.launch import launch
from orchestrator.ray_tune import tuner
from orchestrator.study.load import parse_study
from tests.orchestrator.in_process import replace_ray

STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


@pytest.mark.usefixtures("short_tests")
def test_a_long_compaction_delays_no_heartbeat(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the last one, for which the launch waits: it must not look as if it had ended."""
    replace_ray(monkeypatch, tmp_path)
    monkeypatch.setattr(heartbeat, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(compacting, "uncovered", lambda *_: COMPACT_FROM)
    compacts, beats, during = threading.Event(), threading.Semaphore(0), list[bool]()

    def write(*given: Any) -> None:
        write_launch(*given)
        if compacts.is_set():
            beats.release()

    def compact(*_: object) -> None:
        compacts.set()
        during.append(all(beats.acquire(timeout=20) for _ in range(3)))

    monkeypatch.setattr(heartbeat, "write_launch", write)
    monkeypatch.setattr(compacting, "compact", compact)
    assert launch(parse_study(STUDY, "mini.yaml"), store, Console(quiet=True)).done == 1
    assert during
    assert all(during)


def test_a_failure_is_told_once_and_tried_again_ever_more_rarely(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    torn = DamagedFile(Code.DAMAGED_RESULT, "x.parquet is torn", file="x.parquet")
    failures = [torn, MemoryError("1 GB"), torn, MemoryError("2 GB"), None, torn]
    pauses, warned = list[float](), list[str]()
    compaction = Compacting(store, warned.append, lambda: True)

    def compact(*_: object) -> None:
        if failures and (failure := failures.pop(0)) is not None:
            raise failure

    def wait(pause: float) -> bool:
        pauses.append(pause)
        return not failures

    monkeypatch.setattr(compacting, "kinds", lambda: ["finetune"])
    monkeypatch.setattr(compacting, "uncovered", lambda *_: COMPACT_FROM)
    monkeypatch.setattr(compacting, "compact", compact)
    monkeypatch.setattr(compaction._over, "wait", wait)
    with compaction:
        pass
    assert warned == [
        "Warning: the results were not compacted: x.parquet is torn",
        "Warning: the results were not compacted: MemoryError: 1 GB",
    ]
    assert pauses == [30, 60, 120, 240, 480, 30, 60]


def test_one_kind_that_fails_does_not_keep_the_others_from_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    compacted = list[str]()

    def compact(_: Store, kind: str) -> None:
        if kind == "bad":
            raise MemoryError
        compacted.append(kind)

    monkeypatch.setattr(compacting, "kinds", lambda: ["bad", "good"])
    monkeypatch.setattr(compacting, "uncovered", lambda *_: COMPACT_FROM)
    monkeypatch.setattr(compacting, "compact", compact)
    with Compacting(store, lambda _: None, lambda: True):
        pass
    assert compacted == ["good"]


def test_a_root_that_cannot_be_written_is_not_compacted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "uncovered", lambda *_: pytest.fail("the launch has reported it"))
    warned = list[str]()
    with Compacting(store, warned.append, lambda: False):
        pass
    assert warned == []


def test_no_kind_is_compacted_after_the_root_has_failed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would wait for it as long as the first one has."""
    asked = list[str]()

    def uncovered(_: Store, kind: str) -> int:
        asked.append(kind)
        return 0

    monkeypatch.setattr(compacting, "uncovered", uncovered)
    with Compacting(store, lambda _: None, lambda: not asked):
        pass
    assert len(asked) == 1


def test_an_exception_waits_for_no_compaction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C ends a launch at once, and the kinds that are left are not begun."""
    asked, hangs, answers = list[str](), threading.Event(), threading.Event()

    def hang(_: Store, kind: str) -> int:
        asked.append(kind)
        hangs.set()
        answers.wait(10)
        return 0

    def interrupted() -> None:
        with compaction:
            compaction.finish()
            assert hangs.wait(30)
            raise KeyboardInterrupt

    monkeypatch.setattr(compacting, "HURRY_SECONDS", 0.01)
    monkeypatch.setattr(compacting, "uncovered", hang)
    compaction, began = Compacting(store, lambda _: None, lambda: True), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 9
    answers.set()
    compaction._thread.join()
    assert len(asked) == 1


def test_a_last_compaction_that_takes_too_long_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, warned = threading.Event(), list[str]()
    monkeypatch.setattr(compacting, "_END_SECONDS", 0.01)
    monkeypatch.setattr(compacting, "uncovered", lambda *_: answers.wait(10) and 0)
    with Compacting(store, warned.append, lambda: True) as compaction:
        pass
    answers.set()
    compaction._thread.join()
    assert [line.startswith("Warning: the results were not compacted within") for line in warned] == [True]


@pytest.mark.usefixtures("short_tests")
@pytest.mark.parametrize("cause", StopCause)
def test_a_launch_that_is_to_end_at_once_does_not_compact(
    cause: StopCause, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_ray(monkeypatch, tmp_path)
    compacted = list[str]()
    monkeypatch.setattr(compacting, "uncovered", lambda *_: COMPACT_FROM)
    monkeypatch.setattr(compacting, "compact", lambda _, kind: compacted.append(kind))
    monkeypatch.setattr(tuner, "run_round", lambda *given: given[-1].request_stop(cause, "the reason"))
    launch(parse_study(STUDY, "mini.yaml"), store, Console(quiet=True))
    assert (compacted == []) is (cause in (StopCause.STORAGE, StopCause.INTERRUPTED))
