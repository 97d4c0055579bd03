"""The heartbeat of a launch outlasts whatever happens while it writes its record."""

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Code
from jobs.results import Launch, LocalStore, Store, open_store, read_launches, record_study, write_launch
from orchestrator.launching import heartbeat
from orchestrator.launching.heartbeat import Heartbeat, new_launch


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A root with the record of a study that is launched."""
    root = open_store(tmp_path / "root")
    record_study(root, "mini", "0123", "name: mini")
    return root


def test_a_launch_that_lacks_memory_for_a_moment_goes_on_to_live(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.01)
    warned = list[str]()
    failed, again = threading.Event(), threading.Event()

    def fail(*_: object, **__: object) -> None:
        failed.set()
        raise MemoryError

    def write(*given: Any) -> None:
        write_launch(*given)
        if failed.is_set():
            again.set()

    monkeypatch.setattr(heartbeat, "write_launch", write)
    with Heartbeat(store, new_launch("mini", "0123"), tuple, warned.append):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Launch, "_replace", fail)
            assert failed.wait(30)
        assert again.wait(30)
    assert any("memory" in line.lower() for line in warned)
    (record,) = read_launches(store)
    assert record.ended_at is not None


def test_a_lack_of_memory_is_no_failure_of_the_root(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with Heartbeat(store, new_launch("mini", "0123"), tuple, lambda _: None) as beating:
        monkeypatch.setattr(heartbeat, "write_launch", fail)
        error = beating.beat()
        assert error is not None
        assert error.code is Code.OUT_OF_MEMORY
        monkeypatch.undo()


def test_what_fails_after_the_last_trial_stops_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.01)
    tried, stopped = threading.Semaphore(0), list[object]()

    def fail(*_: object) -> None:
        tried.release()
        raise MemoryError

    with Heartbeat(store, new_launch("mini", "0123"), tuple, lambda _: None, stopped.append) as beating:
        beating.finish()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(heartbeat, "write_launch", fail)
            assert all(tried.acquire(timeout=30) for _ in range(3)), "the heartbeat goes on"
    assert stopped == []


def test_a_place_stays_in_the_record_until_the_launch_ends(store: Store) -> None:
    with Heartbeat(store, new_launch("mini", "0123"), tuple, lambda _: None) as beating:
        assert [record.place for record in read_launches(store)] == [None]
        beating.take(2)
        assert [record.place for record in read_launches(store)] == [2]
        beating.beat()
        assert [record.place for record in read_launches(store)] == [2]
    assert [(record.place, record.ended_at is not None) for record in read_launches(store)] == [(None, True)]


def test_a_place_is_not_lost_to_a_write_that_began_before(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def write(store: Store, launch: Launch) -> None:
        if threading.current_thread() is slow:
            began.set()
            goes_on.wait(0.2)
        write_launch(store, launch)

    with Heartbeat(store, new_launch("mini", "0123"), tuple, lambda _: None) as beating:
        slow = threading.Thread(target=beating.beat)
        monkeypatch.setattr(heartbeat, "write_launch", write)
        slow.start()
        assert began.wait(30)
        beating.take(2)
        goes_on.set()
        slow.join()
        assert [record.place for record in read_launches(store)] == [2]


def test_an_exception_waits_for_no_storage_that_hangs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C ends a launch at once."""
    for name in ("_FIRST_SECONDS", "HEARTBEAT_SECONDS", "HURRY_SECONDS"):
        monkeypatch.setattr(heartbeat, name, 0.01)
    tried, hangs, answers = list[float](), threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        tried.append(time.monotonic())
        hangs.set()
        answers.wait(10)

    def interrupted(beating: Heartbeat) -> None:
        with beating:
            monkeypatch.setattr(heartbeat, "write_launch", hang)
            assert hangs.wait(30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(Heartbeat(store, new_launch("mini", "0123"), tuple, lambda _: None))
    assert time.monotonic() - tried[0] < 9
    answers.set()
    assert len(tried) == 1, "nor does it begin to write the end"


@pytest.mark.parametrize(("ahead", "told"), [(0, ""), (20, ""), (1800, "1,800 s ahead of"), (-120, "120 s behind")])
def test_a_clock_that_differs_from_that_of_the_storage_is_told(
    ahead: float, told: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow one makes its launch look dead to everybody, and a fast one alive after its end."""
    written_at, warned = LocalStore.written_at, list[str]()
    monkeypatch.setattr(LocalStore, "written_at", lambda *given: written_at(*given) - timedelta(seconds=ahead))
    with Heartbeat(store, new_launch("mini", "0123"), tuple, warned.append):
        pass
    assert [told in line for line in warned] == ([True] if told else [])
