"""A kill between any two steps of a commit or a compaction: afterwards every trial is present exactly once."""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.results import Committed, LocalStore, Store, commit, compact, done, open_store, read_trials, uncovered
from jobs.verification.verify import verify
from tests.results.support import KIND, DyingStore, Killed, MemoryStore, held, once, rows

KILLED = 77
STEPS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
"""Audit events of the system calls that change a folder; opening a file for writing is another such event."""


def commit_one(store: Store) -> None:
    commit(store, KIND, rows(9))


def commit_conflict(store: Store) -> None:
    commit(store, KIND, rows(1, test_accuracy=1.0))


def compact_all(store: Store) -> None:
    compact(store, KIND)


ACTIONS: dict[str, Callable[[Store], None]] = {
    "commit": commit_one,
    "conflict": commit_conflict,
    "compact": compact_all,
}


def prepare(store: Store) -> None:
    """Commit three trials, the first two of which are in the index."""
    commit(store, KIND, rows(1))
    commit(store, KIND, rows(2))
    compact(store, KIND)
    commit(store, KIND, rows(3))


def require_whole(store: Store, action: str) -> None:
    """Check the root after a kill, and after repeating the action."""
    expected = {1, 2, 3}
    present = {9} if len(done(store, KIND)) == 4 else set()
    assert held(read_trials(store, KIND)) == once(expected | present), "a trial is there whole or not at all"
    assert [finding for finding in verify(store) if finding.problem != "conflict"] == []
    again = commit(store, KIND, rows(9))
    assert again is (Committed.ALREADY_THERE if present else Committed.NEW)
    assert held(read_trials(store, KIND)) == once(expected | {9})
    compact(store, KIND)
    assert uncovered(store, KIND) == 0
    assert held(read_trials(store, KIND)) == once(expected | {9})
    if action == "conflict":
        commit_conflict(store)
    assert len(list(store.keys("conflicts"))) == (action == "conflict")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("action", ACTIONS)
def test_killed_around_every_operation(action: str, after: bool) -> None:
    for step in range(200):
        store = MemoryStore()
        prepare(store)
        try:
            ACTIONS[action](DyingStore(store, step, after))
        except Killed:
            require_whole(store, action)
        else:
            break
    assert step >= {"commit": 1, "conflict": 3, "compact": 7}[action], "every operation had its kill"
    require_whole(store, action)


def die_at(root: str, action: str, step: int) -> None:
    """In a separate process, run the action and exit abruptly right before a system call that changes the root."""
    store, count = open_store(root), 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        path = str(arguments[0]) if arguments else ""
        changes = event in STEPS or (event == "open" and isinstance(flags := arguments[2], int) and flags & os.O_CREAT)
        if changes and (path.startswith(root) or not path.startswith("/")):  # relative names in an open folder
            count += 1
            if count == step:
                os._exit(KILLED)

    sys.addaudithook(hook)
    ACTIONS[action](store)


@pytest.mark.parametrize(
    "action", [action if action == "commit" else pytest.param(action, marks=pytest.mark.slow) for action in ACTIONS]
)
def test_killed_between_any_two_system_calls(action: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    prepare(LocalStore(tmp_path / "prepared"))
    for step in range(1, 200):
        store = LocalStore(tmp_path / str(step))
        shutil.copytree(tmp_path / "prepared", store.directory)
        process = context.Process(target=die_at, args=(store.uri, action, step))
        process.start()
        process.join()
        require_whole(store, action)
        if process.exitcode == 0:
            break
        assert process.exitcode == KILLED
    assert step > 4
