"""Merging roots some of which are in an object store: as between directories, nothing is lost."""

import hashlib
from pathlib import Path

import pytest

from jobs.errors import Code, InvalidRequest, ResultsConflict
from jobs.results import (
    Failure,
    FailureKind,
    Launch,
    Problem,
    Store,
    commit,
    compact,
    done,
    merge,
    open_store,
    pin,
    read_failures,
    read_launches,
    read_trials,
    record_failure,
    record_study,
    recorded_studies,
    write_launch,
)
from jobs.results.layout import checkpoint_key, log_key, pin_key, trained_weights_key, trial_key
from jobs.results.object_store import ObjectStore
from jobs.study.model import Study
from jobs.verification.verify import verify
from tests.results.support import IMPATIENT, KIND, held, once, rows, trial
from tests.support import refused

STUDY = {
    "grid": {"source": ["fmnist_natural"], "dataset": ["digits"], "blocks": [0]},
    "schedule": [{"images": [50], "epochs": 2, "seeds": 1, "evaluate_every": 1}],
}
LONG_AGO = "2026-01-01T00:00:00+00:00"
Roots = tuple[Store, Store, Store]


@pytest.fixture(params=["s3 source", "s3 target", "all s3"])
def roots(request: pytest.FixtureRequest, bucket: str, tmp_path: Path) -> Roots:
    """Two roots with trials 1, 2 and 2, 3 and everything that attempts and launches leave; and an empty one."""

    def opened(name: str, remote: bool) -> Store:
        return ObjectStore(f"s3://{bucket}/roots/{name}", IMPATIENT) if remote else open_store(tmp_path / name)

    where = {"s3 source": (True, False, False), "s3 target": (False, False, True), "all s3": (True, True, True)}
    one, two, target = map(opened, ("one", "two", "joined"), where[request.param])
    for name, store, numbers in (("a", one, (1, 2)), ("b", two, (2, 3))):
        pin(store, "datasets", "digits", "d" * 64)
        study = Study.model_validate({**STUDY, "name": name})
        record_study(store, name, study.digest, study.resolved())
        write_launch(store, Launch(name, name, study.digest, "ada", "node7", LONG_AGO, "0.1.0", {}, LONG_AGO))
        for number in numbers:
            commit(store, KIND, own_rows(number))
            store.create(trained_weights_key(trial(number)), weights(number))
        reason = Failure(trial(5), 1, FailureKind.ERROR, "ValueError", f"of {name}", "node7", name, LONG_AGO)
        record_failure(store, reason, f"log of {name}")
    one.create(checkpoint_key(trial(7), 2, 0, hashlib.sha256(b"state").hexdigest()[:16]), b"state")
    compact(one, KIND)
    return one, two, target


def weights(number: int) -> bytes:
    """Return placeholder weights of a trial; their content does not matter here."""
    return f"weights of {number}".encode()


def own_rows(number: int, **changes: object) -> list[dict[str, object]]:
    return rows(number, trained_sha256=hashlib.sha256(weights(number)).hexdigest(), **changes)


def everything(store: Store) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.keys("") if not key.startswith("_tmp/")}


def test_nothing_is_lost(roots: Roots) -> None:
    *sources, target = roots
    before = [everything(root) for root in sources]
    found = merge(sources, target)
    assert (found.trials, found.already_there, found.conflicts, found.other_devices) == (3, 1, [], 0)
    assert [everything(root) for root in sources] == before, "what is read stays as it is"
    assert held(read_trials(target, KIND)) == once({1, 2, 3})
    for root, numbers in ((sources[0], (1, 2)), (sources[1], (3,))):
        for number in numbers:
            for key in (trial_key(KIND, trial(number)), trained_weights_key(trial(number))):
                assert target.read(key) == root.read(key)
    assert [(one.attempt, one.reason) for one in read_failures(target)] == [(1, "of a"), (2, "of b")]
    assert [target.read(log_key(trial(5), attempt)) for attempt in (1, 2)] == [b"log of a", b"log of b"]
    assert [record.name for record in recorded_studies(target)] == ["a", "b"]
    assert [record.launch for record in read_launches(target)] == ["a", "b"]
    assert [key.split("/")[1] for key in target.keys("checkpoints")] == [trial(7)]
    assert [finding for finding in verify(target) if not finding.problem.harmless] == []
    once_more = everything(target)
    assert merge(sources, target).trials == 0
    assert everything(target) == once_more


def test_pins_are_compared_before_anything_is_written(roots: Roots) -> None:
    *sources, target = roots
    for store, digest in zip(sources, "ab", strict=True):
        pin(store, "sources", "natural", digest * 64)
    file = f"{sources[1].uri}/{pin_key('sources', 'natural')}"
    with refused(Code.OTHER_DIGEST, "sources/natural", sources[0].uri, kind=ResultsConflict, file=file):
        merge(sources, target)
    assert list(target.keys("")) == []
    pin(target, "datasets", "digits", "1" * 64)
    with refused(Code.OTHER_DIGEST, "datasets/digits", kind=ResultsConflict):
        merge(sources[:1], target)
    assert done(target, KIND) == set()


def test_conflicts_are_kept_and_named(roots: Roots) -> None:
    *sources, target = roots
    commit(sources[1], KIND, own_rows(1, test_loss=9.0))
    found = merge(sources, target)
    assert (found.trials, found.conflicts) == (3, [trial(1)])
    (conflict,) = target.keys("conflicts")
    assert target.read(conflict) == sources[1].read(trial_key(KIND, trial(1)))
    assert [one.problem for one in verify(target) if not one.problem.harmless] == [Problem.CONFLICT]


@pytest.mark.parametrize("inner", ["", "/trials", "/", "/below/it"])
def test_a_prefix_is_not_joined_into_itself(inner: str, object_store: ObjectStore) -> None:
    commit(object_store, KIND, rows(1))
    with refused(Code.REPEATED, object_store.uri, kind=InvalidRequest, key="--results"):
        merge([object_store], ObjectStore(f"{object_store.uri}{inner}", IMPATIENT))
    beside = ObjectStore(f"{object_store.uri}-beside", IMPATIENT)
    assert merge([object_store], beside).trials == 1, "a name that merely begins alike is another place"


def test_a_prefix_without_a_root(object_store: ObjectStore, tmp_path: Path) -> None:
    with refused(Code.NO_ROOT, object_store.uri, kind=InvalidRequest, file=object_store.uri):
        merge([object_store], open_store(tmp_path / "joined"))
    assert not (tmp_path / "joined").exists()
