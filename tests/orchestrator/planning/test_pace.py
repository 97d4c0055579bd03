"""Rate, time left and counts of cells in `status --json`."""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from jobs.results import Launch, Store, commit, open_store, write_launch
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.planning import status
from orchestrator.planning.flops import trial_flops
from orchestrator.planning.pace import Finished, Pace, pace_of
from orchestrator.planning.status import describe, status_of, watch_status
from orchestrator.planning.trial_states import STATES
from orchestrator.study.load import parse_study
from tests.results.rows import result_rows

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def study() -> Study:
    text = (
        "name: paced\ngrid: {source: [natural, l2_eps3], dataset: [cifar10], blocks: [3]}\n"
        "schedule: [{images: [100], epochs: 2, seeds: 4, evaluate_every: 1}]\n"
    )
    return parse_study(text, "paced.yaml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


def launched(store: Store, study: Study, name: str, start: timedelta, end: timedelta | None = None) -> None:
    times = [(NOW - ago).isoformat() for ago in (start, end or timedelta(seconds=5))]
    ended = None if end is None else times[1]
    write_launch(store, Launch(name, study.name, study.digest, "a", "h", times[0], "0", {}, times[1], (), ended))


def finished(store: Store, trial: str, launch: str, ago: timedelta) -> None:
    commit(store, "finetune", result_rows(trial, launch=launch, finished_at=(NOW - ago).isoformat()))


def test_rates_count_only_hours_in_which_a_launch_ran(store: Store, study: Study) -> None:
    trials = [spec.trial_id for spec in expand(study)]
    launched(store, study, "old", timedelta(hours=30), timedelta(hours=28))
    launched(store, study, "new", timedelta(minutes=30))
    for trial in trials[:4]:
        finished(store, trial, "old", timedelta(hours=29))
    finished(store, trials[4], "new", timedelta(minutes=10))
    finished(store, trials[5], "by hand", timedelta(minutes=10))
    now = status_of(store, study, NOW)
    assert (now.pace.last_hour, now.pace.whole) == pytest.approx((2.0, 2.0))
    plain = now.plain()
    assert plain["seconds_left"] == pytest.approx(3600)
    assert "2.0 trials per hour; 1h 00m left" in describe(now)


def test_the_time_left_counts_work_and_not_trials(store: Store) -> None:
    """The longest trials run first: one with 400 images takes as long as many with 50."""
    text = (
        "name: paced\ngrid: {source: [natural], dataset: [cifar10], blocks: [3]}\n"
        "schedule:\n  - {images: [400], epochs: 1, seeds: 1, evaluate_every: 1}\n"
        "  - {images: [100], epochs: 1, seeds: 1, evaluate_every: 1}\n"
    )
    study = parse_study(text, "paced.yaml")
    large, small = expand(study)
    launched(store, study, "new", timedelta(hours=1))
    finished(store, large.trial_id, "new", timedelta(minutes=10))
    left = status_of(store, study, NOW).seconds_left
    expected = 3600 * trial_flops(small, study.catalog).total / trial_flops(large, study.catalog).total
    assert left == pytest.approx(expected)


def test_overlapping_launches_count_once(store: Store, study: Study) -> None:
    trials = [spec.trial_id for spec in expand(study)]
    for name in ("one", "two"):
        launched(store, study, name, timedelta(hours=2), timedelta(hours=1))
    finished(store, trials[0], "one", timedelta(minutes=90))
    finished(store, trials[1], "two", timedelta(minutes=90))
    now = status_of(store, study, NOW)
    assert now.pace.last_hour is None
    assert now.pace.whole == pytest.approx(2.0)
    assert now.plain()["seconds_left"] is None, "nothing runs"


def test_the_launch_of_another_study_says_nothing_about_this_one(store: Store, study: Study) -> None:
    """A finished launch half an hour ago has a rate, at which nothing goes on."""
    trials = [spec.trial_id for spec in expand(study)]
    launched(store, study, "old", timedelta(minutes=50), timedelta(minutes=30))
    finished(store, trials[0], "old", timedelta(minutes=40))
    launched(store, study.model_copy(update={"name": "other"}), "new", timedelta(minutes=5))
    now = status_of(store, study, NOW)
    assert now.pace.last_hour == pytest.approx(3)
    assert now.plain()["seconds_left"] is None
    assert "left" not in describe(now)
    assert "running: launch new of study other by a on h" in describe(now)


def test_the_pace_of_a_running_study_is_known_without_the_slower_answers(store: Store, study: Study) -> None:
    launched(store, study, "new", timedelta(minutes=30))
    finished(store, expand(study)[0].trial_id, "new", timedelta(minutes=10))
    thorough, paced = status_of(store, study, NOW), status_of(store, study, NOW, thorough=False, paced=True)
    assert (paced.pace, paced.seconds_left) == (thorough.pace, thorough.seconds_left)
    assert "2.0 trials per hour" in describe(paced)
    fast = status_of(store, study, NOW, thorough=False)
    assert (fast.pace, fast.seconds_left) == (Pace(), None)


def test_a_watched_study_shows_its_pace(
    store: Store, study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launched(store, study, "new", timedelta(minutes=30))
    finished(store, expand(study)[0].trial_id, "new", timedelta(minutes=10))
    monkeypatch.setattr(status, "status_of", partial(status_of, now=NOW))
    monkeypatch.setattr(status, "nobody_listens", iter([False, True]).__next__)
    monkeypatch.setattr(status, "_WATCH_SECONDS", 0.0)
    watch_status(store, study, Console())
    assert "2.0 trials per hour; 3h 30m left" in capsys.readouterr().out


def test_launches_of_other_studies_finish_nothing_of_this_one(store: Store, study: Study) -> None:
    trials = [spec.trial_id for spec in expand(study)]
    launched(store, study, "ended", timedelta(hours=2), timedelta(hours=1))
    launched(store, study.model_copy(update={"name": "other"}), "other", timedelta(minutes=30))
    finished(store, trials[0], "ended", timedelta(minutes=90))
    assert status_of(store, study, NOW).seconds_left is None


def test_trials_of_hours_have_the_rate_of_all_launches(store: Store, study: Study) -> None:
    """No trial may have finished in the last 60 minutes: that does not mean that none ever will."""
    trials = [spec.trial_id for spec in expand(study)]
    launched(store, study, "slow", timedelta(hours=10))
    assert status_of(store, study, NOW).seconds_left is None, "none has finished yet"
    for ago, trial in zip((7, 2), trials, strict=False):
        finished(store, trial, "slow", timedelta(hours=ago))
    status = status_of(store, study, NOW)
    assert (status.pace.last_hour, status.pace.whole, status.pace.per_hour) == pytest.approx((0.0, 0.2, 0.2))
    assert status.seconds_left == pytest.approx(3600 * 6 / 0.2)
    assert "0.2 trials per hour; 1d 6h left" in describe(status)


@pytest.mark.parametrize("at", ["yesterday", "2026-07-01T11:50:00", "", None])
def test_times_of_strangers_count_nothing(at: str | None, study: Study) -> None:
    launch = Launch("new", study.name, study.digest, "a", "h", NOW.isoformat(), "0", {}, NOW.isoformat())
    now, good = NOW + timedelta(minutes=1), Finished("b", "new", (NOW + timedelta(seconds=30)).isoformat())
    assert pace_of([Finished("a", "new", at), good], [launch], now, lambda trial: 1.0).last_hour == pytest.approx(60.0)


def test_without_launches_nothing_is_known(store: Store, study: Study) -> None:
    assert status_of(store, study, NOW).pace == Pace(None, None)


def test_cells_add_up_to_the_study(store: Store, study: Study) -> None:
    specs = expand(study)
    for spec in specs[:3]:
        finished(store, spec.trial_id, "l", timedelta(minutes=1))
    cells = status_of(store, study, NOW).cells()
    assert [(cell["source"], cell["done"], cell["pending"]) for cell in cells] == [("natural", 3, 1), ("l2_eps3", 0, 4)]
    assert all(cell["kind"] == "finetune" and cell["images"] == 100 and "seed" not in cell for cell in cells)
    assert sum(int(str(cell[state])) for cell in cells for state in STATES) == len(specs)
