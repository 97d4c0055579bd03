"""Records: none is lost, even if two drivers fail at the same attempt; invalid ones are named without a traceback."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from jobs.errors import Code, DamagedFile, ResultsConflict
from jobs.results import (
    Launch,
    Problem,
    Store,
    next_attempt,
    pin,
    read_failures,
    read_launches,
    record_failure,
    record_study,
    recorded_studies,
    require_pin,
    schema,
    write_launch,
)
from jobs.results.layout import (
    checkpoint_key,
    checkpoint_position,
    failure_key,
    launch_key,
    log_key,
    pin_key,
    study_key,
)
from jobs.results.parquet import encode
from jobs.results.records import json_object, reason
from jobs.specs.base import MOST, MOST_EPOCHS
from jobs.study.model import Study
from jobs.verification.verify import verify
from tests.results.support import FAILURE, LAUNCH, MemoryStore, rows, trial
from tests.support import refused

READERS: dict[str, Callable[[Store], object]] = {
    launch_key("l"): read_launches,
    failure_key("x-1", 1): read_failures,
    pin_key("sources", "x"): lambda store: require_pin(store, "sources", "x", "w"),
    pin_key("datasets", "x"): lambda store: require_pin(store, "datasets", "x", "d"),
}
NOTHING: tuple[object, ...] = (None, [], "x", {})
DAMAGES: list[tuple[str, object]] = [
    *[(launch_key("l"), wrong) for wrong in (*NOTHING, LAUNCH._asdict() | {"unknown": 1})],
    *[
        (launch_key("l"), LAUNCH._asdict() | wrong)
        for wrong in (
            {"heartbeat_at": None},
            {"heartbeat_at": "x"},
            {"heartbeat_at": "2026-01-01T00:00:00"},
            {"started_at": "2026-01-01"},
            {"started_at": 0},
            {"ended_at": "late"},
            {"place": -1},
            {"place": "0"},
            {"in_flight": [[1]]},
            {"in_flight": "x-1"},
            {"packages": {"torch": 2}},
            {"launch": 1},
        )
    ],
    *[
        (failure_key("x-1", 1), FAILURE._asdict() | wrong)
        for wrong in ({"attempt": "1"}, {"attempt": None}, {"kind": "bad luck"}, {"reason": ["no"]}, {"trial_id": 1})
    ],
    *[
        (pin_key(folder, "x"), wrong)
        for folder in ("sources", "datasets")
        for wrong in ("x", ["sha256"], {}, {"sha256": None}, {"sha256": 1}, {"sha256": ["d"]})
    ],
]
MISNAMED: list[tuple[str, object]] = [
    *[(failure_key("x-1", 1), FAILURE._asdict() | another) for another in ({"trial_id": "../x-1"}, {"attempt": 3})],
    *[(launch_key("l"), LAUNCH._asdict() | {"launch": another}) for another in ("m", "../l", "", "y" * 10_000)],
]


@pytest.mark.parametrize(
    ("key", "record", "problem"),
    [
        *((*damage, Problem.UNREADABLE_RECORD) for damage in DAMAGES),
        *((*misnamed, Problem.MISNAMED) for misnamed in MISNAMED),
    ],
)
def test_what_is_no_record_is_named_by_reader_and_verify(key: str, record: object, problem: Problem) -> None:
    store = MemoryStore()
    record_failure(store, FAILURE._replace(attempt=2), "a good one beside it")
    write_launch(store, LAUNCH._replace(launch="m"))
    store.replace(key, json.dumps(record).encode())
    with pytest.raises(DamagedFile) as caught:
        READERS[key](store)
    assert (caught.value.code, caught.value.place.file) == (Code.DAMAGED_RECORD, f"{store.uri}/{key}")
    assert str(caught.value).startswith(f"{store.uri}/{key} ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000
    assert [(finding.key, finding.problem) for finding in verify(store)] == [(key, problem)]


def test_one_key_twice_among_very_many_is_found_at_once() -> None:
    """Counting each of them would take an hour."""
    keys = [*map(str, range(500_000)), "499999"]
    with pytest.raises(ValueError, match="it contains '499999' twice"):
        json_object(json.dumps(dict.fromkeys(keys[:-1]))[:-1].encode() + b', "499999": 1}')
    assert json_object(json.dumps(dict.fromkeys(keys)).encode()) == dict.fromkeys(keys)


def test_of_very_many_mistakes_the_first_are_told() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Launch).validate_python({f"key\n{number}": 1 for number in range(10_000)})
    said = reason(caught.value)
    assert len(said) < 3_000
    assert "\n" not in said
    assert said.endswith(" more")


def test_a_launch_comes_back_as_it_was_written(any_store: Store) -> None:
    launches = [LAUNCH, LAUNCH._replace(launch="m", in_flight=(), ended_at="2026-01-01T00:00:00Z")]
    launches.append(LAUNCH._replace(launch="n", place=0))
    for launch in launches:
        write_launch(any_store, launch)
    assert read_launches(any_store) == launches


def test_the_record_of_a_launch_without_a_place_is_read_by_older_versions(any_store: Store) -> None:
    """They refuse records with keys that they do not know."""
    write_launch(any_store, LAUNCH)
    known = LAUNCH._asdict().keys() - {"place"}
    assert json.loads(any_store.read(launch_key(LAUNCH.launch))).keys() == known


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [\nb: {\n", 3), ("contrasts:\n- 1\n- x\n", None), ("- a\n", None), ("", None), ("\0", None)],
)
def test_a_damaged_study_is_mended_by_the_next_launch(any_store: Store, text: str, line: int | None) -> None:
    key = study_key("mine", "d1")
    any_store.create(key, text.encode())
    with pytest.raises(DamagedFile) as caught:
        recorded_studies(any_store)
    assert (caught.value.code, caught.value.place) == (Code.DAMAGED_RECORD, (f"{any_store.uri}/{key}", line, ""))
    assert str(caught.value).startswith(f"{any_store.uri}/{key} ")
    assert "\n" not in str(caught.value)
    assert [finding.key for finding in verify(any_store)] == [key]
    record_study(any_store, "mine", "d1", "contrasts: []\n")
    record_study(any_store, "mine", "d1", "contrasts: null\n")
    assert [(study.digest, study.text) for study in recorded_studies(any_store)] == [("d1", "contrasts: []\n")]


@pytest.mark.parametrize("read", [read_failures, read_launches, recorded_studies])
def test_a_record_that_is_removed_after_it_was_listed_is_left_out(read: Callable[[Store], list[object]]) -> None:
    class Slow(MemoryStore):
        def keys(self, prefix: str) -> Iterator[str]:
            listed = list(super().keys(prefix))
            self.delete(listed[0])
            return iter(listed)

    store = Slow()
    for name in ("m", "l"):
        write_launch(store, LAUNCH._replace(launch=name))
        record_study(store, name, "d1", "contrasts: []\n")
        record_failure(store, FAILURE._replace(trial_id=f"{name}-1"), "log")
    assert len(read(store)) == 1


def test_two_failures_of_one_attempt_are_both_kept(any_store: Store) -> None:
    record_failure(any_store, FAILURE, "first log")
    record_failure(any_store, FAILURE._replace(host="there"), "second log")
    assert [(failure.attempt, failure.host) for failure in read_failures(any_store)] == [(1, "here"), (2, "there")]
    assert any_store.read(log_key("x-1", 2)) == b"second log"
    assert next_attempt(any_store, "x-1") == 3


def test_names_of_checkpoints_say_how_far_they_came() -> None:
    """This holds for every trial that a spec allows.

    Sorting by name alone, as older versions do, works in all but the very last epoch.
    """
    places = [(1, 0), (2, 9), (2, 10), (9, 100), (10, 0), (99, 5), (100, 0), (999_999, 999_999)]
    names = [checkpoint_key("x-1", epoch, batch, "f" * 16) for epoch, batch in places]
    assert names == sorted(names)
    further = [*places, (999_999, MOST), (MOST_EPOCHS, 0)]
    assert [checkpoint_position(checkpoint_key("x-1", *place, "f" * 16)) for place in further] == further


@pytest.mark.parametrize(
    "name", ["notes.txt", "e-b-.safetensors", "e1-b2.safetensors", f"e{'9' * 5000}-b0-ff", "e\u0663-b0-ff"]
)
def test_a_stranger_s_file_among_checkpoints_came_nowhere(name: str) -> None:
    assert checkpoint_position(f"checkpoints/x-1/{name}") is None


class PinnedMeanwhile(MemoryStore):
    """Another driver pins a digest between the check and the write."""

    def create(self, key: str, data: bytes) -> bool:
        super().create(key, json.dumps({"name": "natural", "sha256": "b" * 64}).encode())
        return super().create(key, data)


def test_of_two_that_pin_at_once_one_is_refused() -> None:
    store = PinnedMeanwhile()
    values = ("'natural'", "a" * 64, "b" * 64)
    file = f"{store.uri}/{pin_key('sources', 'natural')}"
    with refused(Code.OTHER_DIGEST, *values, kind=ResultsConflict, file=file):
        pin(store, "sources", "natural", "a" * 64)
    pin(PinnedMeanwhile(), "sources", "natural", "b" * 64)


# --- records that can be read but do not match their names ---


def changed(store: Store, key: str, **changes: object) -> None:
    store.replace(key, json.dumps({**json.loads(store.read(key)), **changes}).encode())


def recorded(name: str = "mine", seeds: int = 1) -> Study:
    schedule = [{"images": [50], "epochs": 2, "seeds": seeds, "evaluate_every": 1}]
    grid = {"source": ["fmnist_natural"], "dataset": ["digits"], "blocks": [0]}
    return Study.model_validate({"name": name, "grid": grid, "schedule": schedule})


STUDY = recorded()


def tomorrow() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")


CONTRADICTIONS: dict[str, tuple[str, Callable[[Store], object], Problem]] = {
    "a heartbeat of tomorrow": (
        launch_key("l"),
        lambda store: changed(store, launch_key("l"), heartbeat_at=tomorrow()),
        Problem.IN_FUTURE,
    ),
    "a start of the year 9999": (
        launch_key("l"),
        lambda store: changed(store, launch_key("l"), started_at="9999-12-31T23:59:59+00:00"),
        Problem.IN_FUTURE,
    ),
    "an end of tomorrow": (
        launch_key("l"),
        lambda store: changed(store, launch_key("l"), ended_at=tomorrow()),
        Problem.IN_FUTURE,
    ),
    "another launch": (launch_key("l"), lambda store: changed(store, launch_key("l"), launch="m"), Problem.MISNAMED),
    "a failure of tomorrow": (
        failure_key("x-1", 1),
        lambda store: changed(store, failure_key("x-1", 1), failed_at=tomorrow()),
        Problem.IN_FUTURE,
    ),
    "a failure at no time": (
        failure_key("x-1", 1),
        lambda store: changed(store, failure_key("x-1", 1), failed_at="soon"),
        Problem.UNREADABLE_RECORD,
    ),
    "a pin of another name": (
        pin_key("sources", "x"),
        lambda store: changed(store, pin_key("sources", "x"), name="y"),
        Problem.MISNAMED,
    ),
    "a pin of no digest": (
        pin_key("sources", "x"),
        lambda store: changed(store, pin_key("sources", "x"), sha256="A" * 64),
        Problem.MISNAMED,
    ),
    "a study with another seed": (
        study_key("mine", STUDY.digest),
        lambda store: store.replace(study_key("mine", STUDY.digest), recorded(seeds=2).resolved().encode()),
        Problem.MISNAMED,
    ),
    "a study of another name": (
        study_key("mine", STUDY.digest),
        lambda store: store.replace(study_key("mine", STUDY.digest), recorded("yours").resolved().encode()),
        Problem.MISNAMED,
    ),
    "a study with a key that none has": (
        study_key("mine", STUDY.digest),
        lambda store: store.replace(study_key("mine", STUDY.digest), f"{STUDY.resolved()}more: 1\n".encode()),
        Problem.WRONG_VERSION,
    ),
    "a log of no attempt": ("logs/x-1/one.log", lambda store: store.create("logs/x-1/one.log", b""), Problem.MISNAMED),
    "a log of attempt 01": ("logs/x-1/01.log", lambda store: store.create("logs/x-1/01.log", b""), Problem.MISNAMED),
    "weights of a strange name": ("weights/x.pt", lambda store: store.create("weights/x.pt", b""), Problem.FOREIGN),
    "a conflict of another digest": (
        f"conflicts/finetune/{trial(1)}/0123456789abcdef.parquet",
        lambda store: store.create(
            f"conflicts/finetune/{trial(1)}/0123456789abcdef.parquet",
            encode(pa.Table.from_pylist(rows(1), schema=schema("finetune"))),
        ),
        Problem.WRONG_CONTENT,
    ),
    "a torn conflict": (
        f"conflicts/finetune/{trial(1)}/0123456789abcdef.parquet",
        lambda store: store.create(f"conflicts/finetune/{trial(1)}/0123456789abcdef.parquet", b"PAR1"),
        Problem.TORN,
    ),
    "a checkpoint of another digest": (
        checkpoint_key("x-1", 1, 0, "0" * 16),
        lambda store: store.create(checkpoint_key("x-1", 1, 0, "0" * 16), b"other"),
        Problem.DAMAGED_CHECKPOINT,
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_its_name_or_the_clock_is_found(case: str, store: Store) -> None:
    record_failure(store, FAILURE, "log")
    write_launch(store, LAUNCH)
    pin(store, "sources", "x", "a" * 64)
    record_study(store, "mine", STUDY.digest, STUDY.resolved())
    assert verify(store) == []
    key, damage, problem = CONTRADICTIONS[case]
    damage(store)
    (finding,) = verify(store)
    assert (finding.key, finding.problem) == (key, problem)
    assert f"{store.uri}/{key}" in finding.advice


@pytest.mark.parametrize(("ahead", "alive"), [(0, True), (600, True), (-100, False), (7200, False), (10**9, False)])
def test_a_launch_of_the_future_is_not_alive_for_ever(ahead: float, alive: bool) -> None:
    """Clocks of machines may differ by minutes."""
    now = datetime.now(UTC)
    heartbeat = (now + timedelta(seconds=ahead)).isoformat()
    assert LAUNCH._replace(heartbeat_at=heartbeat).alive(now) is alive


def test_nobody_is_told_to_remove_the_record_of_a_running_launch(store: Store) -> None:
    """Its next write would end it with RootGone, while a record that is torn is replaced by its next heartbeat."""
    store.create(launch_key("l"), b"{")
    file = f"{store.uri}/{launch_key('l')}"
    with refused(Code.DAMAGED_RECORD, file, "if that launch has ended, remove it", kind=DamagedFile, file=file):
        read_launches(store)
