"""One attempt at a trial: intermediate checkpoints, kept weights, the commit, and the files left behind."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, ResultsConflict, StorageFailure
from jobs.execution import attempt
from jobs.execution.attempt import AttemptStatus, attempt_trial, open_trial
from jobs.execution.checkpoints import restore_checkpoint, save_checkpoint
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Finetuning
from jobs.results import Store, comparable_columns, done, open_store, pin, read_trials
from jobs.results.layout import checkpoint_key, checkpoint_position, checkpoints_prefix, pin_key, trained_weights_key
from jobs.results.progress import read_progress
from jobs.specs.recipes import Recipe
from tests.support import refused

pytestmark = pytest.mark.usefixtures("short_tests")

CPU = torch.device("cpu")
NEVER = RetentionPolicy(checkpoint_every=10**6)


SPEC = FinetuneSpec(
    source="fmnist_natural",
    dataset="digits",
    blocks=1,
    images=40,
    seed=20_000_000,
    epochs=5,
    evaluate_every=2,
    recipe=Recipe(batch_size=16),
)
"""40 images are batches of 16, 16 and 8: three per epoch, so that a stop can fall inside one."""


@pytest.fixture
def spec() -> FinetuneSpec:
    return SPEC


def stop_after(calls: int) -> "Stopper":
    """Return a stop request that takes effect at the n-th call."""
    return Stopper(calls)


class Stopper:
    """Requests a stop at its n-th call."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def checkpoints(store: Store, spec: FinetuneSpec) -> list[str]:
    return sorted(store.keys(checkpoints_prefix(spec.trial_id)))


def run(store: Store, spec: FinetuneSpec) -> None:
    assert (
        attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), NEVER).status is AttemptStatus.COMMITTED
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The trial, run without interruption."""
    store = open_store(tmp_path_factory.mktemp("undisturbed"))
    run(store, SPEC)
    return store


@pytest.mark.parametrize("calls", range(1, 17))
def test_stopped_at_any_batch_and_gone_on_gives_the_same_numbers(
    calls: int, spec: FinetuneSpec, undisturbed: Store, tmp_path: Path
) -> None:
    stopped = open_store(tmp_path / "b")
    first = attempt_trial(stopped, open_trial(stopped, spec, PACKAGED, CPU), Attempt(1), NEVER, stop_after(calls))
    assert first.status is (AttemptStatus.STOPPED if calls <= 15 else AttemptStatus.COMMITTED)
    assert len(checkpoints(stopped, spec)) == (0 if calls in (1, 16) else 1)
    if first.status is AttemptStatus.STOPPED:
        assert (
            attempt_trial(stopped, open_trial(stopped, spec, PACKAGED, CPU), Attempt(2), NEVER).status
            is AttemptStatus.COMMITTED
        )
    columns = comparable_columns("finetune")
    left, right = (read_trials(store, "finetune").select(columns) for store in (undisturbed, stopped))
    assert left.equals(right)
    assert checkpoints(stopped, spec) == []


def test_a_checkpoint_holds_everything_that_training_changes(spec: FinetuneSpec, store: Store) -> None:
    """Parameters, buffers of trunk and head, momentum, position, sums, evaluations, seconds."""
    kept: list[Finetuning] = []
    original = save_checkpoint

    def save(where: Store, trial: Finetuning) -> None:
        kept.append(trial)
        original(where, trial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "save_checkpoint", save)
        attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), NEVER, stop_after(9))
    (before,) = kept
    after = open_trial(store, spec, PACKAGED, CPU)
    assert isinstance(after, Finetuning)
    assert restore_checkpoint(store, after) == []
    for name, tensor in before.network.state_dict().items():
        assert torch.equal(tensor, after.network.state_dict()[name]), name
    for name, parameter in before.trained_parameters.items():
        momentum = before.optimizer.state[parameter]["momentum_buffer"]
        assert torch.equal(momentum, after.optimizer.state[after.trained_parameters[name]]["momentum_buffer"]), name
    assert before.position == after.position == (3, 2)
    assert before.tally.sums == after.tally.sums
    assert (before.evaluations, before.seconds) == (after.evaluations, after.seconds)


def test_checkpoints_come_at_the_interval_and_the_last_two_are_kept(
    spec: FinetuneSpec, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = save_checkpoint

    def save(where: Store, trial: Finetuning) -> None:
        original(where, trial)
        seen.append((trial.position, len(checkpoints(where, spec))))

    monkeypatch.setattr(attempt, "save_checkpoint", save)
    attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=1))
    assert seen == [((2, 0), 1), ((3, 0), 2), ((4, 0), 2), ((5, 0), 2)]


def test_nothing_of_checkpoints_stays_behind(spec: FinetuneSpec, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    attempt_trial(
        store, open_trial(store, spec, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=1), stop_after(9)
    )
    folder = tmp_path / checkpoints_prefix(spec.trial_id)
    assert folder.is_dir()
    run(store, spec)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["notes.txt", "a-copy.safetensors", f"e999999-b000000-{'0' * 16}.safetensors.bak"])
def test_what_others_put_among_checkpoints_stays(name: str, spec: FinetuneSpec, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    file = tmp_path / checkpoints_prefix(spec.trial_id) / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"another's")
    ended = attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=1))
    assert ended == (AttemptStatus.COMMITTED, [])
    assert [path.read_bytes() for path in file.parent.iterdir()] == [b"another's"]


def test_what_is_no_file_among_checkpoints_is_named_and_stays(
    irregular: Callable[[Path], None], spec: FinetuneSpec, tmp_path: Path
) -> None:
    store = open_store(tmp_path)
    path = tmp_path / checkpoint_key(spec.trial_id, 9, 0, "0" * 16)
    path.parent.mkdir(parents=True)
    irregular(path)
    ended = attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=1))
    assert ended.status is AttemptStatus.COMMITTED
    assert [str(path) in note for note in ended.notes] == ([] if path.is_dir() and not path.is_symlink() else [True])
    assert os.path.lexists(path)


@pytest.mark.parametrize("folder", ["checkpoints", checkpoints_prefix(SPEC.trial_id)], ids=["all", "the trial's"])
def test_checkpoints_are_not_kept_elsewhere(folder: str, spec: FinetuneSpec, tmp_path: Path) -> None:
    """Checkpoints behind a link are neither read, nor written, nor removed."""
    store, elsewhere = open_store(tmp_path / "root"), tmp_path / "elsewhere"
    link = tmp_path / "root" / folder
    attempt_trial(
        store, open_trial(store, spec, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=1), stop_after(9)
    )
    link.rename(elsewhere)
    link.symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in elsewhere.rglob("*.safetensors")}
    trial = open_trial(store, spec, PACKAGED, CPU)
    with refused(Code.WRONG_PLACE, link, kind=StorageFailure, file=link):
        attempt_trial(store, trial, Attempt(), RetentionPolicy(checkpoint_every=1))
    assert trial.epoch == 2, "it began anew, and could not save"
    run(store, spec)
    assert {path: path.read_bytes() for path in elsewhere.rglob("*.safetensors")} == before


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other-trial"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    damage: str, spec: FinetuneSpec, undisturbed: Store, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    store = open_store(root)
    attempt_trial(
        store, open_trial(store, spec, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=1), stop_after(14)
    )
    older, newest = checkpoints(store, spec)
    data = (root / newest).read_bytes()
    other = spec.model_copy(update={"seed": 20_100_000})
    if damage == "other-trial":
        attempt_trial(store, open_trial(store, other, PACKAGED, CPU), Attempt(), NEVER, stop_after(14))
        (foreign,) = checkpoints(store, other)
        (root / newest).unlink()
        newest = newest.rsplit("/", 1)[0] + "/" + foreign.rsplit("/", 1)[1]
        (root / newest).write_bytes((root / foreign).read_bytes())
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        (root / newest).write_bytes({"flip": flipped, "cut": data[:middle], "empty": b""}[damage])
    trial = open_trial(store, spec, PACKAGED, CPU)
    restore_checkpoint(store, trial)
    assert trial.position == checkpoint_position(older)
    ended = attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(2), NEVER)
    assert ended.status is AttemptStatus.COMMITTED
    (note,) = ended.notes
    assert newest in note
    assert older not in note
    columns = comparable_columns("finetune")
    assert read_trials(store, "finetune").select(columns).equals(read_trials(undisturbed, "finetune").select(columns))


def test_a_checkpoint_of_other_facts_is_passed_over(
    spec: FinetuneSpec, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card may have changed in the meantime, with the same weights and images."""
    attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), NEVER, stop_after(9))
    trial = open_trial(store, spec, PACKAGED, CPU)
    facts = {**trial.facts, "epsilon": 9.0}
    monkeypatch.setattr(Finetuning, "facts", property(lambda trial: facts))
    (note,) = restore_checkpoint(store, trial)
    assert "facts" in note
    assert trial.position == (1, 0)


def test_a_checkpoint_without_a_fact_that_a_later_release_added_is_continued(
    spec: FinetuneSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, facts = open_store(tmp_path / "root"), Finetuning.facts
    trial = open_trial(store, spec, PACKAGED, CPU)
    trial.advance(stop_after(2))
    save_checkpoint(store, trial)
    added = property(lambda trial: {**facts.fget(trial), "later": 7})  # type: ignore[attr-defined]  # it is a property
    monkeypatch.setattr(Finetuning, "facts", added)
    later = open_trial(store, spec, PACKAGED, CPU)
    assert restore_checkpoint(store, later) == []
    assert later.position == trial.position != (1, 0)


def test_a_checkpoint_that_was_passed_over_makes_room_for_the_next(spec: FinetuneSpec, tmp_path: Path) -> None:
    """It is later than the trial's current position, and must not replace a good one among the last two."""
    store = open_store(tmp_path)
    attempt_trial(
        store, open_trial(store, spec, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=1), stop_after(14)
    )
    older, damaged = checkpoints(store, spec)
    (tmp_path / damaged).write_bytes(b"")
    attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(2), NEVER, stop_after(2))
    after = checkpoints(store, spec)
    assert len(after) == 2
    assert older in after
    assert damaged not in after


def test_kept_weights_are_the_trained_network(spec: FinetuneSpec, store: Store) -> None:
    attempt_trial(
        store, open_trial(store, spec, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=10, weights=True)
    )
    trial = open_trial(store, spec, PACKAGED, CPU)
    trial.advance()
    kept = load(store.read(trained_weights_key(spec.trial_id)))
    trained = trial.network.model.state_dict()
    assert kept.keys() == trained.keys()
    assert all(torch.equal(kept[name], trained[name]) for name in kept)


def test_other_weights_under_a_pinned_name_are_refused_before_training(spec: FinetuneSpec, store: Store) -> None:
    pin(store, "sources", spec.source, "0" * 64)
    file = f"{store.uri}/{pin_key('sources', spec.source)}"
    with refused(Code.OTHER_DIGEST, store.uri, spec.source, "0" * 64, kind=ResultsConflict, file=file):
        attempt_trial(
            store, open_trial(store, spec, PACKAGED, CPU), Attempt(), NEVER, lambda: pytest.fail("training began")
        )
    assert done(store, "finetune") == set()


def test_the_progress_of_a_stopped_trial_can_be_read_without_its_tensors(spec: FinetuneSpec, store: Store) -> None:
    trial = open_trial(store, spec, PACKAGED, CPU)
    attempt_trial(store, trial, Attempt(), NEVER, stop_after(8))
    (key,) = checkpoints(store, spec)
    found = read_progress(store, key)
    assert (found.epoch, found.batch) == trial.position
    assert found.evaluations == tuple(row._asdict() for row in trial.evaluations)
    assert len(found.evaluations) > 0
    assert found.device_kinds == (trial.device_kind,)
    assert found.host == socket.gethostname()
