"""Launches that run the same trials at the same time take them in different orders."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.results import Launch, Store, open_store, record_study, write_launch
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching.sharing import from_place, others_sharing, place_among
from orchestrator.study.load import parse_study

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
STUDY = """
name: {name}
grid: {{source: [fmnist_natural], dataset: [digits], blocks: [{blocks}]}}
schedule: [{{images: [20], epochs: 1, seeds: 3, evaluate_every: 1}}]
"""


def launched(
    name: str, start: float, heard: float, ended: float | None = None, now: datetime = NOW, **changes: str
) -> Launch:
    """The record of a launch; times are in seconds from now."""
    begun, last, over = ((now + timedelta(seconds=seconds or 0)).isoformat() for seconds in (start, heard, ended))
    record = Launch(name, "mini", "0123", "ada", "node7", begun, "0", {}, last, (), None if ended is None else over)
    return record._replace(**changes)  # type: ignore[arg-type]  # names and texts only


def places(*launches: Launch) -> list[int]:
    """The place that each comes to from the records of all."""
    return [place_among(own, [other for other in launches if other is not own]) for own in launches]


def test_launches_that_begin_together_come_to_different_places() -> None:
    assert places(launched("b", 0, 0), launched("a", 0, 0), launched("c", -0.1, 0)) == [2, 1, 0]


def test_a_launch_keeps_the_place_that_it_has() -> None:
    """Whatever the others see, and whenever they began."""
    own, first, third = launched("own", 0, 0), launched("a", -900, -5), launched("c", -300, -5)
    assert place_among(own, []) == 0
    assert place_among(own, [first._replace(place=1)]) == 0, "that at place 0 has ended, or ran none of the same trials"
    assert place_among(own, [first._replace(place=0), third._replace(place=2)]) == 1
    assert place_among(own, [first._replace(place=0), third._replace(place=1)]) == 2


@pytest.mark.parametrize("start", [20, -5])
def test_a_slow_clock_takes_no_place_that_another_has(start: float) -> None:
    """The other one had read all records before this one was among them."""
    assert place_among(launched("own", start, start), [launched("a", 0, 0)._replace(place=0)]) == 1


def test_launches_without_a_place_take_the_free_ones() -> None:
    others = [launched("a", -20, -5)._replace(place=0), launched("b", -9, -5), launched("c", -30, -5)._replace(place=2)]
    assert place_among(launched("own", -10, -5), others) == 1
    assert place_among(launched("own", -8, -5), others) == 3


def test_the_places_divide_the_work() -> None:
    trials = list("abcdefgh")
    equal = dict.fromkeys(trials, 1.0)
    orders = ["".join(from_place(trials, place, equal)) for place in range(6)]
    assert orders == ["abcdefgh", "hgfedcba", "efghabcd", "cdefghab", "ghabcdef", "bcdefgha"]
    assert "".join(from_place("abcdefg", 2, dict(zip("abcdefg", [8, 4, 4, 4, 2, 1, 1], strict=True)))) == "cdefgab"
    assert [from_place([], place, {}) for place in range(4)] == [[]] * 4
    assert all(sorted(from_place(trials, place, equal)) == trials for place in range(40))


@pytest.fixture
def root(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


def recorded(root: Store, name: str, blocks: int, heard: float = -5) -> Study:
    """Record a study and a launch of it."""
    study = parse_study(STUDY.format(name=name, blocks=blocks), "study.yaml")
    record_study(root, study.name, study.digest, study.resolved())
    write_launch(root, launched(f"of-{name}", -60, heard, now=datetime.now(UTC), study=name, digest=study.digest))
    return study


def test_only_running_launches_with_some_of_the_trials_count(root: Store) -> None:
    own = recorded(root, "own", 0)
    recorded(root, "same", 0)
    recorded(root, "other", 1)
    recorded(root, "dead", 0, heard=-300)
    over = launched("over", -60, -5, ended=-5, now=datetime.now(UTC), study=own.name, digest=own.digest)
    write_launch(root, over)
    record = launched("now", 0, 0, study=own.name, digest=own.digest)
    write_launch(root, record)
    trials = {spec.trial_id for spec in expand(own)}
    assert {launch.launch for launch in others_sharing(root, record, trials)} == {"of-own", "of-same"}
    assert {launch.launch for launch in others_sharing(root, record, set())} == {"of-own"}


def test_a_study_that_cannot_be_read_is_judged_by_what_runs(root: Store) -> None:
    own = launched("own", 0, 0)
    write_launch(root, launched("other", -60, -5, now=datetime.now(UTC), digest="4567")._replace(in_flight=("t-1",)))
    assert [launch.launch for launch in others_sharing(root, own, {"t-1", "t-2"})] == ["other"]
    assert others_sharing(root, own, {"t-2"}) == []
