"""Every packaged architecture: its parts are the network, and its trials do what those of ResNet-50 do."""

import gc
import hashlib
import os
from collections.abc import Callable, Iterator
from itertools import cycle
from math import isfinite
from typing import NamedTuple, Self

import pytest
import torch
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.costs import flops_trained_image, memory
from jobs.kinds.finetune.bundle import Bundle
from jobs.kinds.finetune.transfer import freeze
from jobs.kinds.finetune.trial import Finetuning
from jobs.networks.arithmetic import attention_by_matrix_products
from jobs.networks.builders import build
from jobs.networks.counting import Allocations
from jobs.networks.describe import describe
from jobs.networks.network import Network
from jobs.networks.proofs import require_usable
from scripts import architecture_cards
from tests.jobs.networks.shrunk import ALL, LABELS, opened, size_of, spec_of, weights_of
from tests.jobs.support import numbers
from tests.machine import needs

NAMES = [pytest.param(name, marks=pytest.mark.timeout(600)) for name in ALL]
LARGE = "wide_resnet50_4"
TRIED = [
    pytest.param(
        name,
        marks=needs(
            name != LARGE or "DELTASWEEP_LARGE_NETWORKS" in os.environ,
            f"trials of {LARGE}, which need minutes and up to 12 GB",
            "set DELTASWEEP_LARGE_NETWORKS=1",
        ),
    )
    for name in ALL
]
"""Networks whose trials are tried: the largest, of the same family as four others, only on demand."""


# --- the parts ---


def test_the_packaged_architectures_are_those_of_the_script() -> None:
    assert set(ALL) == set(architecture_cards.PACKAGED)
    for name, (builder, size) in architecture_cards.PACKAGED.items():
        card = PACKAGED.architecture(name)
        assert (card.name, card.builder, card.image_size) == (name, builder, size)


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_are_the_network_bit_for_bit(name: str) -> None:
    """In evaluation and in training, and no layer draws from global state; every weight belongs to one part."""
    parts, other = (build(PACKAGED.architecture(name), LABELS, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    images_NCHW = torch.randn(2, 3, size_of(name), size_of(name), generator=torch.Generator().manual_seed(0))
    with attention_by_matrix_products():
        require_usable(parts, name, images_NCHW, other)


@pytest.mark.parametrize("name", NAMES)
def test_cards_agree_with_networks(name: str) -> None:
    card, parts = PACKAGED.architecture(name), build(PACKAGED.architecture(name), LABELS)
    counts = [sum(p.numel() for p in part.parameters()) for part in (parts.stem, *parts.blocks, parts.tail)]
    assert [part.parameters for part in (card.stem, *card.blocks, card.tail)] == counts
    network = Network(parts, (0.0,) * 3, (1.0,) * 3)
    assert network.fc.in_features == card.features
    assert parts.model.get_submodule(card.fc.modules) is network.fc
    assert network.fc.out_features == LABELS
    assert card.running_statistics == any(name.endswith("running_mean") for name in parts.model.state_dict())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["resnet50", "resnet35-w8", "mobilenet_v2", "timm.vit_small_patch16_224"])
def test_cards_are_recounted(name: str) -> None:
    assert describe(name, *architecture_cards.PACKAGED[name]) == PACKAGED.architecture(name)


PUBLISHED = {
    "convnext_tiny": 28_589_128,
    "densenet161": 28_681_000,
    "mnasnet1_0": 4_383_312,
    "mobilenet_v2": 3_504_872,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnext50_32x4d": 25_028_904,
    "shufflenet_v2_x1_0": 2_278_604,
    "swin_t": 28_288_354,
    "vgg16_bn": 138_365_992,
    "vit_b_16": 86_567_656,
    "wide_resnet50_2": 68_883_240,
}
"""Numbers of parameters with 1,000 labels (pytorch.org/vision/stable/models.html, read in November 2026)."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_of_parameters_are_the_published_ones(name: str) -> None:
    card = PACKAGED.architecture(name)
    assert sum(part.parameters for part in (card.stem, *card.blocks, card.tail, card.fc)) == PUBLISHED[name]


def test_flops_of_a_vision_transformer_by_hand() -> None:
    """ViT-B/16: 196 patches and a class token, 12 layers of width 768 with 12 heads, hidden layers of 3,072."""
    card = PACKAGED.architecture("vit_b_16")
    tokens, width, hidden = 197, 768, 3072
    assert card.stem.flops == 2 * 196 * width * (16 * 16 * 3)
    projections = 4 * 2 * tokens * width * width  # query, key, value, and the output
    products = 2 * 2 * tokens * tokens * width  # with the keys, and with the values; over all heads
    layers = 2 * 2 * tokens * width * hidden
    assert {block.flops for block in card.blocks} == {projections + products + layers}
    assert len(card.blocks) == 12
    assert card.fc.flops == 2 * width * 1000
    # a block begins with a layer norm that is trained, so gradients pass all its products whether its input needs one
    assert {block.input_gradient for block in card.blocks} == {0}
    forward = sum(block.flops for block in card.blocks[-3:])
    flops = flops_trained_image(card, 3)
    assert flops.head_forward == forward + card.fc.flops
    assert flops.head_backward == 2 * (forward + card.fc.flops)


# --- trials ---


def one_batch() -> Callable[[], bool]:
    answers = cycle([False, True])
    return lambda: next(answers)


class Left(NamedTuple):
    """What a trial leaves: its rows, and digests of everything that a checkpoint contains. It holds no tensors."""

    rows: object
    tensors: dict[str, str]

    @classmethod
    def by(cls, trial: Finetuning) -> Self:
        return cls(numbers(trial), {key: _digest(tensor) for key, tensor in trial.tensors().items()})


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().data).hexdigest()


@pytest.fixture
def _no_weights_kept() -> Iterator[None]:
    yield
    weights_of.cache_clear()
    gc.collect()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("_no_weights_kept")
@pytest.mark.parametrize("name", TRIED)
def test_trials_of_every_architecture(name: str) -> None:
    """A bundle computes what each trial does alone; a pause changes nothing; what is frozen stays as it was.

    One trial at a time, because networks of this list have up to 900 MB.
    """
    recipe = {"frozen_batchnorm": "batch" if ALL.index(name) % 2 else "source", "learning_rate": 0.001}
    specs = [spec_of(name, blocks, recipe) for blocks in (0, 1, 3)]
    alone: dict[int, Left] = {}
    for spec in specs:
        trial = opened(name, spec)
        trial.advance()
        alone[spec.blocks] = Left.by(trial)
        assert all(isfinite(row.train_loss) for row in trial.evaluations), "NaN equals nothing"
        if spec.blocks == 1:
            _require_frozen_parts_as_before(name, trial)
        del trial
        gc.collect()  # a network that draws refers to its trial

    def failed(trial: Finetuning, error: Exception) -> None:
        raise AssertionError(f"{trial.spec.trial_id} failed") from error

    bundle = Bundle(opened(name, specs[0]), failed)
    for spec in specs[1:]:
        assert bundle.join(Bundle(opened(name, spec), failed))
    bundle.advance()
    assert {trial.spec.blocks: Left.by(trial) for trial in bundle.trials} == alone
    del bundle
    gc.collect()

    paused = opened(name, specs[2])
    while not paused.done:
        paused.advance(one_batch())
        paused = paused if paused.done else resumed(name, paused)
    assert Left.by(paused) == alone[3]


def _require_frozen_parts_as_before(name: str, trial: Finetuning) -> None:
    before, trained = weights_of(name).tensors, trial.trained_parameters
    for key, parameter in trial.network.model.named_parameters():
        assert key in trained or torch.equal(parameter, before[key]), f"{key} is frozen"
    path = PACKAGED.architecture(name).fc.modules
    assert [key for key in trained if not key.startswith(path) and not torch.equal(trained[key], before[key])] != []


def resumed(name: str, paused: Finetuning) -> Finetuning:
    """Return a new trial with the state of another one."""
    return opened(name, paused.spec).restore(
        {key: tensor.detach().clone() for key, tensor in paused.tensors().items()},
        epoch=paused.epoch,
        batch=paused.batch,
        tally=paused.tally,
        evaluations=list(paused.evaluations),
        seconds=paused.seconds,
        history=paused.own_history,
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_planned_memory_is_near_the_peak_of_a_step(name: str) -> None:
    """Within 20 % of what a training step allocates, with the weights; at the card's image size."""
    card, batch, blocks = PACKAGED.architecture(name), 2, (3, -1, 0)[ALL.index(name) % 3]
    parts = build(card, 1000, torch.Generator().manual_seed(0))
    network = Network(parts, (0.5,) * 3, (0.25,) * 3).train()
    network.draw_from(lambda _, shape: torch.rand(tuple(shape)))
    freeze(network, blocks)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    optimizer.zero_grad()
    images_NCHW = torch.rand(batch, 3, card.image_size, card.image_size)
    weights = sum(p.nbytes for p in network.parameters())
    with attention_by_matrix_products(), Allocations([*network.parameters(), *network.buffers(), images_NCHW]) as seen:
        for _ in range(2):  # the second step has all of the optimizer's state
            nn.functional.cross_entropy(network(images_NCHW), torch.arange(batch)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    planned = memory(card, [blocks], batch, 1)
    assert planned == pytest.approx(weights + seen.peak, rel=0.2)
