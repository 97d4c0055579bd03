"""Augmentation's draws are independent per image and depend on the seed only; grey images only with `as-published`."""

import hashlib
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.catalog.catalog import PACKAGED
from jobs.data.augmentation import Draws, augment, draw
from jobs.data.datasets import Dataset
from jobs.execution.seeding import Purpose, generator
from jobs.kinds.finetune.preprocessing import augments
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from tests.jobs.support import CPU, finetune_spec, finetuned, numbers


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draws_have_the_released_ranges() -> None:
    draws = draw(20_000, rng(1))
    assert draws.corners_N2.unique().tolist() == list(range(9))  # type: ignore[no-untyped-call]  # untyped in torch
    assert float(draws.flipped_N.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(draws.factors_N3.min()) == pytest.approx(0.75, abs=1e-3)
    assert float(draws.factors_N3.max()) == pytest.approx(1.25, abs=1e-3)
    assert float(draws.factors_N3.mean()) == pytest.approx(1, abs=0.005)
    assert float(draws.degrees_N.min()) == pytest.approx(-2, abs=1e-2)
    assert float(draws.degrees_N.max()) == pytest.approx(2, abs=1e-2)
    orders, counts = draws.order_N3.unique(dim=0, return_counts=True)  # type: ignore[no-untyped-call]  # untyped in torch
    assert len(orders) == 6
    assert counts.tolist() == pytest.approx([20_000 / 6] * 6, rel=0.06)
    both = torch.cat([draws.corners_N2, draws.factors_N3, draws.degrees_N[:, None], draws.flipped_N[:, None]], 1)
    assert float((torch.corrcoef(both.T) - torch.eye(7)).abs().max()) < 0.04, "drawn independently of one another"


def test_an_image_is_augmented_alike_in_any_batch(colours: Dataset) -> None:
    """On a CPU a batch is processed in parts, on a GPU at once."""
    images_NCHW = colours.train.images_NCHW[:].repeat(10, 1, 1, 1)
    draws = draw(320, rng(2))
    together = augment(images_NCHW, draws)
    alone = [augment(images_NCHW[i : i + 1], Draws(*(drawn[i : i + 1] for drawn in draws))) for i in range(320)]
    assert torch.equal(torch.cat(alone), together)
    assert len(together[::32].unique(dim=0)) == 10, "one photograph, ten draws, ten images"  # type: ignore[no-untyped-call]  # torch gives it no types


def test_augmenting_leaves_the_images_alone(colours: Dataset) -> None:
    before = colours.train.images_NCHW[:].clone()
    augment(colours.train.images_NCHW[:], draw(32, rng(2)))
    assert torch.equal(colours.train.images_NCHW[:], before)


def test_golden_augmentation() -> None:
    """Changes only on purpose, together with the numerics of every kind that augments; the same on every machine."""
    images_NCHW = torch.arange(2 * 3 * 16 * 16).mul(37).remainder(256).to(torch.uint8).view(2, 3, 16, 16)
    draws = draw(2, generator(20_000_000, Purpose.AUGMENTATION, 1, 0))
    assert draws.corners_N2.tolist() == [[2, 5], [5, 4]]
    assert draws.flipped_N.tolist() == [True, False]
    assert draws.order_N3.tolist() == [[0, 2, 1], [2, 0, 1]]
    found = hashlib.sha256(augment(images_NCHW, draws).numpy().tobytes()).hexdigest()
    assert found == "094b42063c5e1236419bb2e30865c6be0945ad325ee3e2aacf2cf97b07978f2c"
    grey = hashlib.sha256(augment(images_NCHW[:, :1], draws).numpy().tobytes()).hexdigest()
    assert grey == "59310809e3cb1f09e8dfee3983f7f404e63547faaaa1a1839c524a65e8d65fb3"


# --- in a trial ---


def inputs(weights: SourceWeights, data: Dataset, recipe: dict[str, Any] | None = None, **changes: Any) -> list[Tensor]:
    """Return the network's inputs in a trial of two epochs: three training batches and the test set, twice."""
    trial = Finetuning(finetune_spec(recipe, **{"dataset": data.name, "epochs": 2, **changes}), weights, data, CPU)
    seen: list[Tensor] = []
    trial.network.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    trial.advance()
    assert [len(x_NCHW) for x_NCHW in seen] == [8, 8, 4, len(data.test.labels_N)] * 2
    return seen


def alike(left: list[Tensor], right: list[Tensor]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(left, right, strict=True)]


TRAINING = [True, True, True, False] * 2


def test_training_images_of_colour_sets_are_augmented_and_test_images_are_not(
    weights: SourceWeights, colours: Dataset
) -> None:
    plain = inputs(weights, colours, {"transforms": "none"})
    assert [not same for same in alike(inputs(weights, colours), plain)] == TRAINING
    assert torch.equal(plain[3], colours.test.images_NCHW[:] / 255)


def test_the_draws_follow_from_seed_epoch_and_batch(weights: SourceWeights, colours: Dataset) -> None:
    plain = inputs(weights, colours, {"transforms": "none"})
    found = inputs(weights, colours)
    for epoch in (1, 2):
        for batch in range(3):
            place = 4 * (epoch - 1) + batch
            bytes_NCHW = plain[place].mul(255).round().to(torch.uint8)
            draws = draw(len(bytes_NCHW), generator(7, Purpose.AUGMENTATION, epoch, batch))
            assert torch.equal(found[place], augment(bytes_NCHW, draws) / 255)


@pytest.mark.parametrize("changes", [{"source": "fmnist_natural"}, {"blocks": 0}, {"blocks": -1}])
def test_neither_source_nor_blocks_change_the_augmented_images(
    changes: dict[str, Any], weights: SourceWeights, colours: Dataset
) -> None:
    assert all(alike(inputs(weights, colours, **changes), inputs(weights, colours)))


def test_seed_epoch_and_batch_each_change_the_draws() -> None:
    places = [(7, 1, 0), (8, 1, 0), (7, 2, 0), (7, 1, 1)]
    factors = [draw(8, generator(seed, Purpose.AUGMENTATION, *place)).factors_N3 for seed, *place in places]
    assert len(torch.stack(factors).unique(dim=0)) == 4  # type: ignore[no-untyped-call]  # untyped in torch


def test_grey_sets_are_not_augmented_as_released(weights: SourceWeights, few_digits: Dataset) -> None:
    assert all(alike(inputs(weights, few_digits), inputs(weights, few_digits, {"transforms": "none"})))


def test_training_images_of_grey_sets_are_augmented_as_published_and_test_images_are_not(
    weights: SourceWeights, few_digits: Dataset
) -> None:
    plain, found = inputs(weights, few_digits), inputs(weights, few_digits, {"transforms": "as-published"})
    assert [not same for same in alike(found, plain)] == TRAINING
    for epoch in (1, 2):
        for batch in range(3):
            place = 4 * (epoch - 1) + batch
            bytes_NCHW = plain[place].mul(255).round().to(torch.uint8)[:, :1]
            draws = draw(len(bytes_NCHW), generator(7, Purpose.AUGMENTATION, epoch, batch))
            assert torch.equal(found[place], (augment(bytes_NCHW, draws) / 255).expand(-1, 3, -1, -1))


def test_colour_sets_are_augmented_as_published_as_they_are_as_released(
    weights: SourceWeights, colours: Dataset
) -> None:
    assert all(alike(inputs(weights, colours), inputs(weights, colours, {"transforms": "as-published"})))


@pytest.mark.parametrize(
    ("transforms", "dataset", "expected"),
    [
        ("as-published", "mnist", True),
        ("as-published", "cifar10", True),
        ("as-released", "mnist", False),
        ("as-released", "cifar10", True),
        ("none", "mnist", False),
        ("none", "cifar10", False),
    ],
)
def test_what_is_augmented_follows_from_the_recipe_and_the_colours(
    transforms: str, dataset: str, expected: bool
) -> None:
    assert augments(finetune_spec({"transforms": transforms}, dataset=dataset), PACKAGED) is expected


def test_a_pause_at_every_batch_changes_no_augmented_image(weights: SourceWeights, colours: Dataset) -> None:
    spec = finetune_spec(dataset="cifar10", epochs=2)
    trial = Finetuning(spec, weights, colours, CPU)
    while not trial.done:
        answers = iter([False, True])
        trial.advance(answers.__next__)
    assert numbers(trial) == numbers(finetuned(spec, weights, colours))
