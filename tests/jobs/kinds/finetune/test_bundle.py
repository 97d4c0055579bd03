"""Bundles: every trial computes the same as alone, to the last bit; frozen parts are stored once and run once."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset
from jobs.execution import bundles
from jobs.execution.attempt import AttemptResult, AttemptStatus, attempt_trial, open_trial
from jobs.execution.bundles import attempt_bundle
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune.bundle import Bundle
from jobs.kinds.finetune.spec import FinetuneSpec, apart_from_blocks
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.results import Store, comparable_columns, done, open_store, read_trials
from jobs.results.layout import checkpoints_prefix, trained_weights_key
from tests.jobs.support import CPU, finetune_spec, finetuned, numbers

pytestmark = pytest.mark.usefixtures("short_tests")

DEPTHS = (0, 1, 3, 9, -1)
BATCHES = 2 * 3  # for each trial below: two epochs of three


def specs_of(depths: Sequence[int] = DEPTHS, mode: str = "batch", **changes: object) -> list[FinetuneSpec]:
    return [finetune_spec({"frozen_batchnorm": mode}, blocks=blocks, **{"epochs": 2, **changes}) for blocks in depths]


def bundled(specs: Sequence[FinetuneSpec], weights: SourceWeights, data: Dataset) -> Bundle:
    """Return the trials at their start, in one bundle; a failing trial fails the test."""

    def failed(trial: Finetuning, error: Exception) -> None:
        raise AssertionError(f"{trial.spec.trial_id} failed") from error

    first, *others = (Bundle(Finetuning(spec, weights, data, CPU), failed) for spec in specs)
    assert all(first.join(other) for other in others)
    return first


def one_batch() -> Callable[[], bool]:
    """Return a pause after one batch; it is checked before each."""
    answers = cycle([False, True])
    return lambda: next(answers)


def assert_same(trial: Finetuning, alone: Finetuning) -> None:
    """Require equal rows, and equality of everything that training changes or a checkpoint contains."""
    assert numbers(trial) == numbers(alone)
    assert (trial.position, trial.tally.sums) == (alone.position, alone.tally.sums)
    for mine, expected in (
        (trial.tensors(), alone.tensors()),
        (trial.network.state_dict(), alone.network.state_dict()),
    ):
        assert mine.keys() == expected.keys()
        assert [name for name, tensor in mine.items() if not torch.equal(tensor, expected[name])] == []


@pytest.mark.parametrize("mode", ["batch", "calibrated", "source"])
@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_a_bundle_computes_what_each_trial_does_alone(
    mode: str, colour: bool, weights: SourceWeights, few_digits: Dataset, colours: Dataset
) -> None:
    data, dataset = (colours, "cifar10") if colour else (few_digits, "digits")
    specs = specs_of(mode=mode, dataset=dataset)
    bundle = bundled(specs, weights, data)
    bundle.advance()
    assert sorted(trial.spec.blocks for trial in bundle.trials) == sorted(DEPTHS)
    alone = {spec.blocks: finetuned(spec, weights, data) for spec in specs}
    for trial in bundle.trials:
        assert_same(trial, alone[trial.spec.blocks])


@pytest.mark.parametrize("depths", [(3,), (-1,), (0, -1), (9, 11), (11, -1), (3, 0)])
def test_bundles_of_any_depths(depths: tuple[int, ...], weights: SourceWeights, few_digits: Dataset) -> None:
    bundle = bundled(specs_of(depths), weights, few_digits)
    bundle.advance()
    for trial in bundle.trials:
        assert_same(trial, finetuned(trial.spec, weights, few_digits))


def test_at_every_batch_the_state_is_that_of_the_trial_alone(weights: SourceWeights, few_digits: Dataset) -> None:
    """A checkpoint at any batch is the one that the trial alone would write."""
    specs = specs_of(evaluate_every=5)
    bundle = bundled(specs, weights, few_digits)
    alone = {spec.blocks: Finetuning(spec, weights, few_digits, CPU) for spec in specs}
    batches = 0
    while not bundle.done:
        bundle.advance(one_batch())
        batches += 1
        for trial in bundle.trials:
            alone[trial.spec.blocks].advance(one_batch())
            assert_same(trial, alone[trial.spec.blocks])
    assert batches == BATCHES


def test_what_is_frozen_runs_once_a_batch(weights: SourceWeights, few_digits: Dataset) -> None:
    """In training and evaluation, a block runs once for all trials in which it is frozen, and once for each other."""
    bundle = bundled(specs_of((0, 1, 3, 9)), weights, few_digits)
    calls: Counter[int] = Counter()
    counted: dict[nn.Module, int] = {}
    for trial in bundle.trials:
        counted |= {block: number for number, block in enumerate(trial.network.blocks)}
    for block, number in counted.items():
        block.register_forward_hook(lambda *_, number=number: calls.update([number]))
    bundle.advance()
    # of 11 blocks, 0 and 1 are frozen in all trials, 2 to 7 trained in one, 8 and 9 in two, 10 in three
    steps = BATCHES + 2
    assert [calls[block] // steps for block in range(11)] == [1, 1, *[2] * 6, 3, 3, 4]
    assert all(calls[block] % steps == 0 for block in range(11))


def test_heads_hold_their_own_blocks_and_nothing_more(weights: SourceWeights, few_digits: Dataset) -> None:
    bundle = bundled(specs_of((0, 1, 3, 9)), weights, few_digits)
    held = {p.data_ptr(): p.numel() for trial in bundle.trials for p in trial.network.parameters()}
    trained = [sum(p.numel() for p in trial.trained_parameters.values()) for trial in bundle.trials]
    all_of_one = sum(p.numel() for p in bundle.trials[0].network.parameters())
    trunk = all_of_one - min(trained)
    assert sum(held.values()) == trunk + sum(trained)


def test_trials_share_only_at_one_position_and_with_equal_trunks(weights: SourceWeights, few_digits: Dataset) -> None:
    def fail(trial: Finetuning, error: Exception) -> None:
        raise error

    first, ahead, other = (Bundle(Finetuning(spec, weights, few_digits, CPU), fail) for spec in specs_of((3, 1, 0)))
    ahead.advance(one_batch())
    assert not first.join(ahead)
    with torch.no_grad():
        other.trials[0].network.blocks[0].bn1.running_mean[0] += 1e-6
    assert not first.join(other), "as after checkpoints of another kind of device"
    assert [trial.spec.blocks for trial in first.trials] == [3]


def test_bundled_trials_differ_only_in_blocks() -> None:
    spec = finetune_spec()
    assert apart_from_blocks(spec) == apart_from_blocks(finetune_spec(blocks=9))
    for change in ({"seed": 8}, {"images": 30}, {"source": "fmnist_natural"}, {"epochs": 5}, {"evaluate_every": 2}):
        assert apart_from_blocks(spec) != apart_from_blocks(finetune_spec(**change))
    assert apart_from_blocks(spec) != apart_from_blocks(finetune_spec({"momentum": 0.5}))


# --- attempts ---

NEVER = RetentionPolicy(checkpoint_every=10**6, weights=True)


class Root:
    """Attempts at bundles in a results root, and their failures."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failed: dict[str, Exception] = {}
        self.number = 0

    def attempt(
        self,
        specs: Sequence[FinetuneSpec],
        retention: RetentionPolicy = NEVER,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, AttemptResult]:
        self.number += 1
        numbered = {spec.trial_id: Attempt(self.number) for spec in specs}
        return attempt_bundle(self.store, specs, PACKAGED, CPU, numbered, retention, stop, self.failed.__setitem__)

    def numbers(self, specs: Sequence[FinetuneSpec]) -> list[dict[str, object]]:
        """Return everything that two runs of these trials must agree on."""
        table = read_trials(self.store, "finetune").select(comparable_columns("finetune"))
        return [row for row in table.to_pylist() if row["trial_id"] in {spec.trial_id for spec in specs}]

    def kept(self, spec: FinetuneSpec) -> bytes:
        return self.store.read(trained_weights_key(spec.trial_id))

    def checkpoints(self, spec: FinetuneSpec) -> list[str]:
        return sorted(self.store.keys(checkpoints_prefix(spec.trial_id)))


@pytest.fixture
def specs() -> list[FinetuneSpec]:
    return specs_of((0, 1, 3))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(open_store(tmp_path / "root"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The trials, each run alone."""
    root = Root(open_store(tmp_path_factory.mktemp("alone")))
    for spec in specs_of((0, 1, 3)):
        attempt_trial(root.store, open_trial(root.store, spec, PACKAGED, CPU), Attempt(), NEVER)
    return root


def stop_after(calls: int) -> Callable[[], bool]:
    """Return a stop request that takes effect at the n-th call."""
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= calls


def assert_as_alone(root: Root, alone: Root, specs: Sequence[FinetuneSpec]) -> None:
    """Require results and kept weights equal to the last bit, and no checkpoint left."""
    assert root.numbers(specs) == alone.numbers(specs)
    assert [root.kept(spec) for spec in specs] == [alone.kept(spec) for spec in specs]
    assert [root.checkpoints(spec) for spec in specs] == [[]] * len(specs)


@pytest.mark.parametrize("calls", range(1, BATCHES + 2))
def test_a_bundle_stopped_at_any_batch_goes_on_to_the_same_results(
    calls: int, specs: list[FinetuneSpec], root: Root, alone: Root
) -> None:
    first = root.attempt(specs, stop=stop_after(calls))
    expected = AttemptStatus.STOPPED if calls <= BATCHES else AttemptStatus.COMMITTED
    assert {trial: ended.status for trial, ended in first.items()} == {s.trial_id: expected for s in specs}
    if expected is AttemptStatus.STOPPED:
        assert [len(root.checkpoints(spec)) for spec in specs] == [0 if calls == 1 else 1] * 3
        assert {ended.status for ended in root.attempt(specs).values()} == {AttemptStatus.COMMITTED}
    assert root.failed == {}
    assert_as_alone(root, alone, specs)


def test_trials_at_different_batches_go_on_until_they_meet(
    specs: list[FinetuneSpec], root: Root, alone: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trial is two batches ahead of another, which is one batch ahead of the third: 5 shared batches become 3."""
    for spec, batches in zip(specs, (1, 3, 0), strict=True):
        trial = open_trial(root.store, spec, PACKAGED, CPU)
        attempt_trial(root.store, trial, Attempt(), NEVER, stop_after(batches + 1))
    sizes = []
    original = Bundle._train_batch

    def train_batch(self: Bundle) -> None:
        sizes.append(sorted(trial.spec.blocks for trial in self.trials))
        original(self)

    monkeypatch.setattr(Bundle, "_train_batch", train_batch)
    assert {ended.status for ended in root.attempt(specs).values()} == {AttemptStatus.COMMITTED}
    assert sizes == [[3], [0, 3], [0, 3], *[[0, 1, 3]] * 3]
    assert_as_alone(root, alone, specs)


def test_checkpoints_come_at_the_interval_and_go_on_alone(specs: list[FinetuneSpec], root: Root, alone: Root) -> None:
    """A bundle's checkpoints are ordinary ones: each trial resumes from its own outside the bundle."""
    root.attempt(specs, RetentionPolicy(checkpoint_every=1, weights=True), stop_after(BATCHES))
    assert [len(root.checkpoints(spec)) for spec in specs] == [2, 2, 2]
    for spec in specs:
        trial = open_trial(root.store, spec, PACKAGED, CPU)
        assert attempt_trial(root.store, trial, Attempt(2), NEVER).status is AttemptStatus.COMMITTED
    assert_as_alone(root, alone, specs)


@pytest.mark.parametrize("blocks", [0, 3])
@pytest.mark.parametrize("where", ["learn", "row", "trained_tensors", "save_checkpoint"])
def test_a_trial_that_fails_does_not_take_the_others_down(
    where: str, blocks: int, specs: list[FinetuneSpec], root: Root, alone: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may fail in its step, evaluation, commit or checkpoint; later it resumes alone to the same result."""
    with monkeypatch.context() as patch:
        owner = vars(bundles) if where == "save_checkpoint" else None
        original = owner[where] if owner else getattr(Finetuning, where)

        def broken(*arguments: object) -> object:
            (trial,) = [one for one in arguments if isinstance(one, Finetuning)]
            if trial.spec.blocks == blocks and trial.epoch >= 2:
                raise RuntimeError(f"wrong in {where}")
            return original(*arguments)

        if owner is None:
            patch.setattr(Finetuning, where, broken)
        else:
            patch.setitem(owner, where, broken)
        ended = root.attempt(specs, RetentionPolicy(checkpoint_every=1, weights=True))
    broken_spec = next(spec for spec in specs if spec.blocks == blocks)
    healthy = [spec for spec in specs if spec.blocks != blocks]
    assert {trial: str(error) for trial, error in root.failed.items()} == {broken_spec.trial_id: f"wrong in {where}"}
    assert {trial: one.status for trial, one in ended.items()} == {s.trial_id: AttemptStatus.COMMITTED for s in healthy}
    assert_as_alone(root, alone, healthy)
    assert broken_spec.trial_id not in done(root.store, "finetune")
    assert root.attempt([broken_spec])[broken_spec.trial_id].status is AttemptStatus.COMMITTED
    assert_as_alone(root, alone, specs)


def test_a_damaged_checkpoint_holds_back_its_own_trial_alone(
    specs: list[FinetuneSpec], root: Root, alone: Root, tmp_path: Path
) -> None:
    root.attempt(specs, stop=stop_after(5))
    (key,) = root.checkpoints(specs[1])
    (tmp_path / "root" / key).write_bytes(b"damaged")
    ended = root.attempt(specs)
    assert [len(ended[spec.trial_id].notes) for spec in specs] == [0, 1, 0]
    assert key in ended[specs[1].trial_id].notes[0]
    assert_as_alone(root, alone, specs)


def test_an_error_in_what_is_shared_fails_all_and_keeps_their_checkpoints(
    specs: list[FinetuneSpec], root: Root, alone: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Finetuning.training_images

    def broken(self: Finetuning, indices: Tensor) -> Tensor:
        if self.epoch == 2:
            raise MemoryError("full")
        return original(self, indices)

    with monkeypatch.context() as patch:
        patch.setattr(Finetuning, "training_images", broken)
        assert root.attempt(specs, RetentionPolicy(checkpoint_every=1, weights=True)) == {}
    assert {trial: str(error) for trial, error in root.failed.items()} == {s.trial_id: "full" for s in specs}
    assert [len(root.checkpoints(spec)) for spec in specs] == [1, 1, 1]
    root.attempt(specs)
    assert_as_alone(root, alone, specs)


def test_a_trial_that_cannot_be_opened_leaves_the_others_alone(
    specs: list[FinetuneSpec], root: Root, alone: Root
) -> None:
    impossible = specs[0].model_copy(update={"blocks": 12})
    ended = root.attempt([*specs, impossible])
    assert {trial: one.status for trial, one in ended.items()} == {s.trial_id: AttemptStatus.COMMITTED for s in specs}
    assert list(root.failed) == [impossible.trial_id]
    assert_as_alone(root, alone, specs)


def test_checkpoints_of_a_bundle_hold_the_same_tensors_as_alone(
    specs: list[FinetuneSpec], root: Root, tmp_path: Path
) -> None:
    other = Root(open_store(tmp_path / "other"))
    root.attempt(specs, stop=stop_after(5))
    for spec in specs:
        attempt_trial(other.store, open_trial(other.store, spec, PACKAGED, CPU), Attempt(), NEVER, stop_after(5))
        (mine,), (expected,) = ([load(one.store.read(key)) for key in one.checkpoints(spec)] for one in (root, other))
        assert mine.keys() == expected.keys()
        assert all(torch.equal(mine[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("mode", ["batch", "source"])
def test_trials_at_other_positions_do_not_share(mode: str, weights: SourceWeights, few_digits: Dataset) -> None:
    """In modes without drift of the trunk, only the position differs."""

    def fail(trial: Finetuning, error: Exception) -> None:
        raise error

    first, ahead = (Bundle(Finetuning(spec, weights, few_digits, CPU), fail) for spec in specs_of((3, 1), mode))
    ahead.advance(one_batch())
    assert not first.join(ahead)
    first.advance(one_batch())
    assert first.join(ahead)
