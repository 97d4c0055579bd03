"""Subset and batches of a trial are the same for every source and every number of blocks.

See docs/decisions/trial-ids.md.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.data.batches import batch_indices, in_order, to_input
from jobs.data.datasets import Dataset, ImageSet
from jobs.execution.metrics import RunningMetrics
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from tests.jobs.support import CPU, finetune_spec


@dataclass(frozen=True, eq=False)
class Stream:
    """The inputs of a trial's network, and the labels used for its losses and accuracies."""

    subset: Tensor
    inputs: list[Tensor]
    labels: list[Tensor]

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Stream)
        pairs = [
            ([self.subset], [other.subset]),
            (self.inputs, other.inputs),
            (self.labels, other.labels),
        ]
        return all(
            len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
            for left, right in pairs
        )

    __hash__ = None  # type: ignore[assignment]  # only compared, never used as a key


def stream(weights: SourceWeights, data: Dataset, recipe: dict[str, Any] | None = None, **changes: Any) -> Stream:
    """Run a small trial and record its inputs, including test images."""
    trial = Finetuning(finetune_spec(recipe, **changes), weights, data, CPU)
    recorded = Stream(trial.subset, [], [])
    trial.network.register_forward_pre_hook(lambda _, args: recorded.inputs.append(args[0].clone()))
    with pytest.MonkeyPatch.context() as patch:
        add = RunningMetrics.add

        def remember(self: RunningMetrics, logits_NK: Tensor, labels_N: Tensor, mean_loss: Tensor) -> None:
            recorded.labels.append(labels_N.clone())
            add(self, logits_NK, labels_N, mean_loss)

        patch.setattr(RunningMetrics, "add", remember)
        trial.advance()
    return recorded


@pytest.fixture(scope="module")
def reference(weights: SourceWeights, few_digits: Dataset) -> Stream:
    return stream(weights, few_digits)


@pytest.mark.parametrize("blocks", [0, 1, 9, 11, -1])
def test_blocks_do_not_change_the_stream(
    blocks: int, reference: Stream, weights: SourceWeights, few_digits: Dataset
) -> None:
    assert stream(weights, few_digits, blocks=blocks) == reference


@pytest.mark.parametrize("source", ["fmnist_natural", "fmnist_linf_eps8", "fmnist_gaussian_l2_eps1"])
@pytest.mark.parametrize("blocks", [0, 9])
def test_the_source_does_not_change_the_stream(
    source: str, blocks: int, reference: Stream, other_weights: SourceWeights, few_digits: Dataset
) -> None:
    assert stream(other_weights, few_digits, source=source, blocks=blocks) == reference


def test_how_batchnorm_and_normalisation_are_done_does_not_change_the_stream(
    reference: Stream, weights: SourceWeights, few_digits: Dataset
) -> None:
    recipe = {"normalization": "target", "fc_init": "default", "learning_rate": 0.01}
    assert stream(weights, few_digits, recipe) == reference
    fixed = stream(weights, few_digits, {**recipe, "frozen_batchnorm": "source"})
    assert fixed == replace(reference, inputs=[]), (
        "the whole network sees nothing: its trunk has seen all images before"
    )


def test_the_seed_changes_subset_and_stream(reference: Stream, weights: SourceWeights, few_digits: Dataset) -> None:
    other = stream(weights, few_digits, seed=8)
    assert not torch.equal(other.subset, reference.subset)
    assert other != reference


def test_the_stream_is_each_epoch_s_shuffle_of_the_subset(reference: Stream, few_digits: Dataset) -> None:
    """4 epochs of 20 images in batches of 8, 8, 4, and the 64 test images after each."""
    assert [len(x) for x in reference.inputs] == [8, 8, 4, 64] * 4
    subset = few_digits.train.images_NCHW[reference.subset].float() / 255
    orders = []
    for epoch in range(4):
        images = torch.cat(reference.inputs[4 * epoch : 4 * epoch + 3])
        assert torch.equal(images[:, :1], images[:, 2:]), "grey is repeated to three channels"
        order = [int((subset == image[:1]).flatten(1).all(1).nonzero()[0]) for image in images]
        assert sorted(order) == list(range(20)), "every image once an epoch"
        labels = torch.cat(reference.labels[4 * epoch : 4 * epoch + 3])
        assert torch.equal(labels, few_digits.train.labels_N[reference.subset[torch.tensor(order)]])
        orders.append(tuple(order))
        assert torch.equal(reference.inputs[4 * epoch + 3][:, :1], few_digits.test.images_NCHW[:].float() / 255)
        assert torch.equal(reference.labels[4 * epoch + 3], few_digits.test.labels_N)
    assert len(set(orders)) == 4, "another order in every epoch"


# --- batches ---


def test_batches_keep_the_last_smaller_one() -> None:
    assert [len(batch) for batch in batch_indices(20, 8, seed=1, epoch=1)] == [8, 8, 4]
    assert [len(batch) for batch in batch_indices(16, 8, seed=1, epoch=1)] == [8, 8]
    assert [len(batch) for batch in batch_indices(5, 8, seed=1, epoch=1)] == [5]


def test_batch_order_follows_from_seed_and_epoch_alone() -> None:
    first = torch.cat(batch_indices(50, 8, seed=1, epoch=3))
    torch.manual_seed(99)
    assert torch.equal(torch.cat(batch_indices(50, 16, seed=1, epoch=3)), first), "the batch size only cuts it"
    assert not torch.equal(torch.cat(batch_indices(50, 8, seed=2, epoch=3)), first)
    assert not torch.equal(torch.cat(batch_indices(50, 8, seed=1, epoch=4)), first)


def test_input_is_float_in_0_1_with_three_channels() -> None:
    bytes_NCHW = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    x_NCHW = to_input(bytes_NCHW, CPU, torch.contiguous_format)
    assert x_NCHW.dtype == torch.float32
    assert x_NCHW.shape == (1, 3, 2, 2)
    for channel in range(3):
        assert x_NCHW[0, channel].flatten().tolist() == pytest.approx([0, 0.2, 0.4, 1])


def test_colour_stays_colour() -> None:
    bytes_NCHW = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    assert torch.equal(to_input(bytes_NCHW, CPU, torch.contiguous_format), bytes_NCHW / 255)


def test_input_has_the_recipe_s_memory_format() -> None:
    x_NCHW = to_input(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), CPU, torch.channels_last)
    assert x_NCHW.is_contiguous(memory_format=torch.channels_last)


def test_in_order_covers_the_set_once() -> None:
    images = ImageSet(torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1), torch.arange(5))
    batches = list(in_order(images, 2, CPU, torch.contiguous_format))
    assert [len(labels) for _, labels in batches] == [2, 2, 1]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(torch.cat([x for x, _ in batches])[:, 0, 0, 0], torch.arange(5) / 255)
