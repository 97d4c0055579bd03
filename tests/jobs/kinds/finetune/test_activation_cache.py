"""Activations that are computed once: what is kept, for which trials, and that keeping them changes no number."""

import os
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.data.datasets import Dataset, ImageSet
from jobs.data.resize import Images
from jobs.errors import Code, StorageFailure
from jobs.execution import device_kind as kinds
from jobs.execution.checkpoints import restore_checkpoint, save_checkpoint
from jobs.kinds.finetune import activation_cache as module
from jobs.kinds.finetune.bundle import Bundle
from jobs.kinds.finetune.trial import Evaluation, Finetuning
from jobs.models.weights import SourceWeights
from jobs.paths import activations_directory
from jobs.results import Store
from jobs.specs.optimizers import Execution
from tests.jobs.support import CPU, damage, finetune_spec, make_weights, numbers
from tests.packaged import packaged_weights
from tests.support import refused

SOURCE = {"frozen_batchnorm": "source"}
MODES = ("source", "calibrated")


def opened(weights: SourceWeights, data: Dataset, recipe: dict[str, Any] | None = None, **changes: Any) -> Finetuning:
    spec = finetune_spec({**SOURCE, **(recipe or {})}, **{"dataset": data.name, "epochs": 2, **changes})
    return Finetuning(spec, weights, data, CPU)


def run(trial: Finetuning) -> list[Evaluation]:
    trial.advance()
    return numbers(trial)


def one_batch() -> Callable[[], bool]:
    answers = cycle([False, True])
    return lambda: next(answers)


def files() -> list[Path]:
    return sorted(activations_directory().glob("*.npy"))


def passes(trial: Finetuning) -> list[int]:
    """Record the number of images of each pass through the trunk from now on."""
    found: list[int] = []
    trial.network.model.conv1.register_forward_hook(lambda *args: found.append(len(args[2])))
    return found


# --- what is kept ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("blocks", "shape"), [(0, (256,)), (1, (256, 2, 2)), (3, (128, 4, 4)), (11, (8, 16, 16))])
def test_each_image_passes_the_trunk_once(
    mode: str, blocks: int, shape: tuple[int, ...], weights: SourceWeights, few_digits: Dataset
) -> None:
    trial = opened(weights, few_digits, {"frozen_batchnorm": mode}, blocks=blocks, epochs=4)
    found = passes(trial)
    trial.advance()
    calibration = [8, 8, 4] if mode == "calibrated" else []
    assert found == [*calibration, 1, 64, 1, 20], (
        "an image to see their shape, and the test set; the same of the subset"
    )
    kept = trial.kept()
    assert kept.train is not None
    assert kept.test is not None
    assert kept.train.part(slice(None)).shape == (20, *shape)
    assert kept.test.part(slice(None)).shape == (64, *shape)


@pytest.mark.parametrize(
    ("recipe", "blocks"), [({"frozen_batchnorm": "batch"}, 3), ({"frozen_batchnorm": "source"}, -1)]
)
def test_nothing_is_kept_of_a_trunk_that_is_not_there_or_drifts(
    recipe: dict[str, Any], blocks: int, weights: SourceWeights, few_digits: Dataset
) -> None:
    trial = opened(weights, few_digits, recipe, blocks=blocks)
    trial.advance()
    assert trial.kept() == (None, None)
    assert not activations_directory().exists()


@pytest.mark.parametrize("transforms", ["as-released", "as-published"])
def test_augmented_images_are_never_the_same(
    transforms: str, weights: SourceWeights, colours: Dataset, few_digits: Dataset
) -> None:
    data = colours if transforms == "as-released" else few_digits
    trial = opened(weights, data, {"transforms": transforms})
    found = passes(trial)
    trial.advance()
    assert trial.kept().train is None
    images = len(data.test.labels_N)
    assert found == [1, images, *[8, 8, 4] * 2], "test images once, training images in each batch"
    plain = opened(weights, data, {"transforms": "none"})
    plain.advance()
    assert plain.kept().train is not None


def test_a_subset_that_is_too_large_is_passed_again(few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit, sums are computed in another order."""
    size = 20 * 128 * 4 * 4 * 4
    found = []
    for limit in (size, size - 1):
        monkeypatch.setattr(module, "MOST_KEPT_BYTES", limit)
        trial = opened(packaged_weights("fmnist_natural"), few_digits, {"learning_rate": 0.01})
        trial.advance()
        assert (trial.kept().train is None) == (limit < size)
        found.append(numbers(trial))
    for kept, again in zip(*found, strict=True):
        assert kept.train_loss == pytest.approx(again.train_loss, rel=1e-3)
        assert kept.test_loss == pytest.approx(again.test_loss, rel=1e-3)


@pytest.mark.parametrize("form", ["channels_last", "contiguous"])
@pytest.mark.parametrize("blocks", [0, 1, 3, 9])
@pytest.mark.parametrize("mode", MODES)
def test_they_are_those_of_each_batch_within_a_hundred_thousandth(
    form: str, blocks: int, mode: str, few_digits: Dataset
) -> None:
    """Relative to the largest activation: the tolerance stated in the docs.

    The activations of the test set are equal to the last bit.
    """
    weights = packaged_weights("fmnist_natural")
    trial = opened(weights, few_digits, {"frozen_batchnorm": mode, "memory_format": form}, blocks=blocks)
    trial.advance(one_batch())
    kept, cut = trial.kept(), trial.cut
    assert kept.train is not None
    assert kept.test is not None
    assert cut is not None
    trial.network.eval()
    with torch.no_grad():
        expected = trial.network.trunk(trial.test_images(slice(0, 64)), cut)
        assert torch.equal(kept.test.part(slice(0, 64)), expected)
        assert kept.test.part(slice(0, 64)).stride() == expected.stride()
        for size in (1, 5, 8):
            batch = torch.randperm(20, generator=torch.Generator().manual_seed(size))[:size]
            expected = trial.network.trunk(trial.training_images(batch), cut)
            worst = (kept.train.part(batch) - expected).abs().max() / expected.abs().max()
            assert worst < 1e-5


# --- no number depends on a file ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("blocks", [0, 1, 3])
@pytest.mark.parametrize("images", [20, -1])
def test_whether_there_can_be_files_changes_nothing(
    mode: str,
    blocks: int,
    images: int,
    weights: SourceWeights,
    few_digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes: Any = {"recipe": {"frozen_batchnorm": mode}, "blocks": blocks, "images": images}
    made = run(opened(weights, few_digits, **changes))
    assert len(files()) == (2 if images == -1 else 1)
    assert run(opened(weights, few_digits, **changes)) == made, "found"
    for path in files():
        path.unlink()
    assert run(opened(weights, few_digits, **changes)) == made, "removed, and made again"
    (tmp_path / "file").touch()
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "file"))
    with pytest.warns(
        UserWarning, match=r"activations of the (test|train) images of digits are not shared, .* cannot be stored in"
    ):
        assert run(opened(weights, few_digits, **changes)) == made, "no home"


def test_a_limit_that_is_too_low_is_said_and_changes_nothing(
    weights: SourceWeights, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(opened(weights, few_digits, seed=8))
    files()[0].unlink()
    monkeypatch.setenv("DELTASWEEP_ACTIVATIONS_GB", "0.0005")
    with pytest.warns(
        UserWarning, match=r"524,704 bytes are needed, more than the limit \$DELTASWEEP_ACTIVATIONS_GB \(0.0005"
    ):
        assert run(opened(weights, few_digits, seed=8)) == made


class Unreadable:
    """Images of which only one at a time can be read."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self.shape = images.shape

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, images: slice | Tensor, /) -> Tensor:
        found = self._images[images]
        if len(found) > 1:
            raise StorageFailure(Code.STORAGE, "no answer", file="/data/1.png")
        return found


def test_images_that_cannot_be_read_are_no_failure_of_the_cache(weights: SourceWeights, few_digits: Dataset) -> None:
    images = Unreadable(few_digits.test.images_NCHW)
    data = few_digits._replace(test=ImageSet(images, few_digits.test.labels_N))
    with refused(Code.STORAGE, "no answer", kind=StorageFailure, file="/data/1.png"):
        run(opened(weights, data))
    assert files() == []


def test_a_damaged_file_is_made_again(weights: SourceWeights, few_digits: Dataset) -> None:
    made = run(opened(weights, few_digits))
    (path,) = files()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 64
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        assert run(opened(weights, few_digits)) == made
    assert run(opened(weights, few_digits)) == made


@pytest.mark.parametrize("images", [20, -1])
@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_is_damaged_while_it_is_read_is_made_again(
    mode: str, images: int, weights: SourceWeights, few_digits: Dataset
) -> None:
    """In a bundle as well: deeper trunks continue from activations that other trials keep."""
    recipe = {"frozen_batchnorm": mode}

    def failed(trial: Finetuning, error: Exception) -> None:
        raise AssertionError(f"{trial.spec.trial_id} failed") from error

    alone = {blocks: run(opened(weights, few_digits, recipe, blocks=blocks, images=images)) for blocks in (1, 3)}
    first, other = (
        Bundle(opened(weights, few_digits, recipe, blocks=blocks, images=images), failed) for blocks in alone
    )
    assert first.join(other)
    first.advance(one_batch())
    for path in files():
        for place in range(200, path.stat().st_size - 1000, 1000):
            damage(path, place)
    with pytest.warns(UserWarning, match="is damaged"):
        first.advance()
    assert {trial.spec.blocks: numbers(trial) for trial in first.trials} == alone


def test_a_file_that_goes_while_it_is_read_changes_nothing(weights: SourceWeights, few_digits: Dataset) -> None:
    made = run(opened(weights, few_digits))
    trial = opened(weights, few_digits)
    trial.advance(one_batch())
    files()[0].unlink()
    assert run(trial) == made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batches", [1, 3, 4])
def test_a_restored_trial_goes_on_to_the_same_numbers(
    mode: str, batches: int, weights: SourceWeights, few_digits: Dataset, store: Store
) -> None:
    trial = opened(weights, few_digits, {"frozen_batchnorm": mode})
    for _ in range(batches):
        trial.advance(one_batch())
    save_checkpoint(store, trial)
    elsewhere = opened(weights, few_digits, {"frozen_batchnorm": mode})
    os.environ["DELTASWEEP_HOME"] += "-elsewhere"
    assert restore_checkpoint(store, elsewhere) == []
    assert run(elsewhere) == run(trial)


# --- for which trials ---


def test_seeds_share_a_test_set_and_a_whole_training_set(weights: SourceWeights, few_digits: Dataset) -> None:
    run(opened(weights, few_digits, images=-1))
    other = opened(weights, few_digits, images=-1, seed=8)
    found = passes(other)
    run(other)
    assert found == [1, 1], "an image of each part, to see their shape"
    assert [path.name.split("-")[:2] for path in files()] == [["digits", "test"], ["digits", "train"]]


def test_what_changes_no_bit_has_one_file(weights: SourceWeights, few_digits: Dataset) -> None:
    for recipe, changes in (
        ({}, {}),
        ({"learning_rate": 0.01, "batch_size": 4, "fc_init": "default"}, {"images": 30, "seed": 9, "epochs": 1}),
        ({}, {"source": "fmnist_natural"}),
        ({"optimizer": "adamw", "schedule": "cosine"}, {}),
    ):
        run(opened(weights, few_digits, recipe, **changes))
        assert len(files()) == 1


def test_what_may_change_a_bit_has_files_of_its_own(weights: SourceWeights, few_digits: Dataset) -> None:
    moved = {name: t.clone() for name, t in weights.tensors.items()}
    moved["layer1.0.bn1.running_mean"][0] += 1e-6
    half = few_digits._replace(test=ImageSet(*(part[:32] for part in few_digits.test)))
    others = [
        opened(weights, few_digits),
        opened(make_weights(seed=2), few_digits),
        opened(SourceWeights(moved, weights.sha256), few_digits),
        opened(weights, few_digits._replace(sha256="other")),
        opened(weights, half),
        opened(weights, few_digits, blocks=1),
        opened(weights, few_digits, {"frozen_batchnorm": "calibrated"}),
        opened(weights, few_digits, {"frozen_batchnorm": "calibrated"}, seed=8),
        opened(weights, few_digits, {"normalization": "target"}),
        opened(weights, few_digits, {"evaluation_batch_size": 32}),
        opened(weights, few_digits, {"memory_format": "contiguous"}),
        opened(weights, few_digits, {"threads": 2}),
    ]
    for count, trial in enumerate(others, start=1):
        trial.advance(one_batch())
        assert len(files()) == count


@pytest.mark.parametrize(
    ("recipe", "operation"), [({"precision": "bfloat16"}, "bfloat16"), ({"evaluation": "folded"}, "folded")]
)
def test_a_processor_that_computes_them_differently_has_files_of_its_own(
    recipe: dict[str, Any],
    operation: str,
    weights: SourceWeights,
    few_digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened(weights, few_digits, recipe).advance(one_batch())
    assert len(files()) == 1
    own = kinds._digest_of

    def digest_of(name: str, device: torch.device, execution: Execution) -> str:
        return f"{name} 1: another" if name == operation else own(name, device, execution)

    monkeypatch.setattr(kinds, "_digest_of", digest_of)
    opened(weights, few_digits, recipe).advance(one_batch())
    assert len(files()) == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("keeps", [True, False])
def test_a_bundle_passes_each_image_once_and_computes_what_each_does_alone(
    mode: str, keeps: bool, weights: SourceWeights, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks frozen in several trials run once: deeper trunks continue from the activations of shallower ones."""

    def failed(trial: Finetuning, error: Exception) -> None:
        raise AssertionError(f"{trial.spec.trial_id} failed") from error

    depths = (0, 1, 3, 9)
    recipe = {"frozen_batchnorm": mode}
    alone = {blocks: run(opened(weights, few_digits, recipe, blocks=blocks)) for blocks in depths}
    home = tmp_path / "other"
    home.mkdir() if keeps else home.touch()
    monkeypatch.setenv("DELTASWEEP_HOME", str(home))
    first, *others = (Bundle(opened(weights, few_digits, recipe, blocks=blocks), failed) for blocks in depths)
    assert all(first.join(other) for other in others)
    images: dict[int, int] = {}
    for trial in first.trials:
        for number, block in enumerate(trial.network.blocks[: trial.cut]):
            block.register_forward_hook(
                lambda *args, number=number: images.update({number: images.get(number, 0) + len(args[2])})
            )
    if keeps:
        first.advance()
        frozen = [images[block] - (20 if mode == "calibrated" else 0) for block in range(11)]
        # one image of each part for the shapes; for each depth, those blocks that the one before has not frozen
        assert frozen[:2] == [2 + 64 + 20] * 2, "frozen in all"
        assert frozen[10] == 2 + 64 + 20, "frozen in one"
        assert len(files()) == 4
    else:
        with pytest.warns(UserWarning, match="each trial computes its own"):
            first.advance()
    assert {trial.spec.blocks: numbers(trial) for trial in first.trials} == alone
