"""A results root that disappears during a launch.

Nothing is written elsewhere; the launch stops and can be resumed later.
"""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.errors import Code, DeltaSweepError, RootGone
from jobs.execution.bundles import attempt_bundle
from jobs.results import Store, all_done, open_store, read_failures
from jobs.study.model import Study
from orchestrator.cli.exit_codes import ExitCode, exit_code_of
from orchestrator.failures.outcomes import StopCause
from orchestrator.launching import heartbeat
from orchestrator.launching.heartbeat import Heartbeat
from orchestrator.launching.launch import launch
from orchestrator.launching.launch_state import LaunchState
from orchestrator.ray_tune import trainable, tuner
from orchestrator.study.load import parse_study
from tests.file_systems import Disk
from tests.orchestrator.in_process import replace_ray
from tests.support import refused

pytestmark = pytest.mark.usefixtures("short_tests")

STUDY = """
name: mini
grid:
  source: [fmnist_natural]
  dataset: [digits]
  blocks: [0]
schedule:
  - {images: [30], epochs: 2, seeds: 4, evaluate_every: 1}
checkpoint_every: 1
"""


@pytest.fixture
def study() -> Study:
    return parse_study(STUDY, "mini.yaml")


def then(patch: pytest.MonkeyPatch, event: Callable[[], None]) -> list[int]:
    """Make something happen between the first and the second trial of a launch; the list grows with each trial."""
    begun = list[int]()

    def attempt(*arguments: Any) -> Any:
        begun.append(1)
        if len(begun) == 2:
            event()
        return attempt_bundle(*arguments)

    patch.setattr(trainable, "attempt_bundle", attempt)
    return begun


def moved(root: Path) -> Path:
    return root.with_name("moved")


def replaced_by_another(root: Path) -> None:
    root.rename(moved(root))
    root.mkdir()


def replaced_by_a_file(root: Path) -> None:
    root.rename(moved(root))
    root.touch()


def replaced_by_a_link(root: Path) -> None:
    """Replace the root by a link to another directory, which was also a root."""
    root.rename(moved(root))
    (root.parent / "other" / "trials").mkdir(parents=True)
    root.symlink_to(root.parent / "other")


def emptied(root: Path) -> None:
    shutil.copytree(root, moved(root))
    for path in root.iterdir():
        remove_all(path) if path.is_dir() else path.unlink()


def without(folder: str) -> Callable[[Path], None]:
    def remove(root: Path) -> None:
        shutil.copytree(root, moved(root))
        remove_all(root / folder)

    return remove


def removed(root: Path) -> None:
    shutil.copytree(root, moved(root))
    remove_all(root)


def remove_all(folder: Path) -> None:
    """Remove a folder, into which a heartbeat may be writing meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


EVENTS: dict[str, Callable[[Path], Any]] = {
    "renamed": lambda root: root.rename(moved(root)),
    "removed": removed,
    "replaced by another directory": replaced_by_another,
    "replaced by a link": replaced_by_a_link,
    "replaced by a file": replaced_by_a_file,
    "emptied": emptied,
    "without its launches": without("launches"),
}


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", EVENTS)
def test_a_launch_stops_and_goes_on_when_the_root_is_back(
    how: str, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_ray(monkeypatch, tmp_path)
    root = tmp_path / "root"
    left: list[set[str]] = []

    def event() -> None:
        EVENTS[how](root)
        left.extend(below(place) for place in (tmp_path / "root", tmp_path / "other"))

    begun = then(monkeypatch, event)
    store = open_store(root)
    with refused(Code.STORAGE, root, "resume", kind=RootGone, file=root):
        launch(study, store, Console(quiet=True))
    assert len(begun) == 2, "it stopped at once"
    assert [below(tmp_path / "root"), below(tmp_path / "other")] == left, "nothing is written in its place"
    if root.is_symlink() or root.is_file():
        root.unlink()
    elif root.exists():
        shutil.rmtree(root)
    moved(root).rename(root)
    monkeypatch.undo()
    replace_ray(monkeypatch, tmp_path)
    again = open_store(root)
    assert len(all_done(again)) == 1
    summary = launch(study, again, Console(quiet=True))
    assert (summary.done, summary.failed) == (4, {})
    assert read_failures(again) == [], "no trial is charged"


def test_an_unmounted_root_leaves_the_directory_underneath_alone(
    study: Study, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_ray(monkeypatch, tmp_path)
    begun = then(monkeypatch, disk.take_away)
    with refused(Code.STORAGE, disk.folder, "unmounted", kind=RootGone, file=disk.folder):
        launch(study, open_store(disk.folder), Console(quiet=True))
    assert len(begun) == 2
    assert list(disk.folder.iterdir()) == []


def test_a_machine_that_has_another_directory_there_stops_the_launch(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, the root is mounted only on the driver's machine."""
    replace_ray(monkeypatch, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    opened: list[Path] = []

    def open_there(root: str) -> Store:
        opened.append(elsewhere)
        return open_store(elsewhere)

    monkeypatch.setattr(trainable, "open_store", open_there)
    summary = launch(study, open_store(tmp_path / "root"), Console(quiet=True))
    assert (summary.done, summary.failed, len(opened)) == (0, {}, 1)
    assert summary.stop is not None
    assert summary.stop.cause is StopCause.MACHINE
    assert str(elsewhere) in summary.stop.reason
    assert not elsewhere.exists()


@pytest.mark.parametrize("how", EVENTS)
def test_a_heartbeat_stops_trials_that_are_far_from_their_next_write(
    how: str, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile only the driver accesses the root. A beat that began before the root disappeared is written whole."""
    replace_ray(monkeypatch, tmp_path)
    monkeypatch.setattr(heartbeat, "_FIRST_SECONDS", 0.01)
    root = tmp_path / "root"
    left: list[set[str]] = []
    write, beating = Heartbeat._write, threading.Lock()

    def whole(self: Heartbeat, **fields: Any) -> DeltaSweepError | None:
        with beating:
            return write(self, **fields)

    monkeypatch.setattr(Heartbeat, "_write", whole)

    def train(bundles: object, job: object, share: object, state: LaunchState) -> None:
        with beating:
            EVENTS[how](root)
            left.extend(below(place) for place in (root, tmp_path / "other"))
        deadline = time.monotonic() + 60
        while not state.stopping:
            assert time.monotonic() < deadline, "nobody looked"
            state.tick()
            time.sleep(0.01)
        assert state.stop is not None
        assert state.stop.cause is StopCause.STORAGE

    monkeypatch.setattr(tuner, "run_round", train)
    with refused(Code.STORAGE, root, "resume", kind=RootGone, file=root):
        launch(study, open_store(root), Console(quiet=True))
    assert [below(place) for place in (root, tmp_path / "other")] == left, "nothing was written elsewhere"


def test_a_root_that_is_gone_is_worth_trying_again(tmp_path: Path) -> None:
    store = open_store(tmp_path / "root")
    store.create("a/b", b"")
    (tmp_path / "root").rename(tmp_path / "moved")
    with pytest.raises(RootGone) as caught:
        store.create("a/c", b"")
    assert exit_code_of(caught.value.code) is ExitCode.TRY_AGAIN
