"""Trials of networks that users write: bundled, resumed and stored like those of packaged ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from jobs.catalog.catalog import Cards, Catalog
from jobs.data.datasets import Dataset, ImageSet
from jobs.execution.metrics import RunningMetrics
from jobs.kinds.finetune.bundle import Bundle
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.storable import saved, storable
from jobs.models.weights import SourceWeights, write_source
from jobs.networks.builders import build
from jobs.networks.describe import describe
from jobs.networks.drawing import DrawingLayer
from tests.jobs.own_networks import BUILDER, MY_NET, MY_VIT, NAME, changed, with_convolutions
from tests.jobs.support import CPU, finetune_spec, numbers

SOURCE = {
    "name": "s",
    "architecture": "mine",
    "trained_on": "digits",
    "constraint": "none",
    "epsilon": 0,
    "mean": [0.3] * 3,
    "std": [0.4] * 3,
    "release": {"file": "made", "format": "safetensors", "urls": []},
}
TWICE = changed(
    "    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())",
    "    conv, drop = nn.Conv2d(4, 4, 3, padding=1), nn.Dropout(0.3)\n"
    "    return nn.Sequential(conv, drop, nn.BatchNorm2d(4), nn.ReLU(), conv, drop)",
)
"""A convolution and a dropout layer are used twice in each block."""
NETWORKS = {
    "transformer": MY_VIT,
    "layers used twice": TWICE,
    "spectral norm": with_convolutions("nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1))"),
    "statistics of InstanceNorm": changed("nn.BatchNorm2d(4)", "nn.InstanceNorm2d(4, track_running_stats=True)"),
}
RECIPES: tuple[dict[str, Any], ...] = (
    {"frozen_batchnorm": "batch"},
    {"frozen_batchnorm": "calibrated", "optimizer": "adamw", "learning_rate": 0.01, "schedule": "cosine"},
)
DEPTHS = (0, 1, 3, -1)


def opened(text: str, blocks: int, recipe: dict[str, Any] | None = None) -> Finetuning:
    """Return a trial of three batches per epoch, two epochs."""
    card = describe("mine", BUILDER, 32, text)
    catalog = Catalog(Cards.model_validate({"sources": {"s": SOURCE}, "architectures": {"mine": card}}), {NAME: text})
    rng = torch.Generator().manual_seed(5)
    weights = SourceWeights(dict(build(catalog.architecture("mine"), 10, rng).model.state_dict()), "made")
    images = torch.randint(256, (18, 3, 32, 32), generator=rng, dtype=torch.uint8)
    train, test = (ImageSet(part, torch.arange(len(part)) % 2) for part in (images[:12], images[12:]))
    spec = finetune_spec({"batch_size": 4, **(recipe or {})}, source="s", blocks=blocks, images=12, epochs=2)
    return Finetuning(spec, weights, Dataset("digits", train, test, "drawn"), CPU, catalog)


def tensors(trial: Finetuning) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in trial.tensors().items()}


@pytest.mark.parametrize("recipe", RECIPES, ids=["sgd", "adamw"])
@pytest.mark.parametrize("network", NETWORKS)
def test_trials_alone_bundled_and_resumed_are_equal(network: str, recipe: dict[str, Any]) -> None:
    text = NETWORKS[network]
    alone = {blocks: opened(text, blocks, recipe) for blocks in DEPTHS}
    for trial in alone.values():
        frozen = {n: p.detach().clone() for n, p in trial.network.model.named_parameters() if not p.requires_grad}
        trial.advance()
        assert all(torch.equal(p, trial.network.model.get_parameter(n)) for n, p in frozen.items())

    def failed(_: Finetuning, error: Exception) -> None:
        raise AssertionError from error

    first, *others = (Bundle(opened(text, blocks, recipe), failed) for blocks in DEPTHS)
    assert all(first.join(other) for other in others)
    trials = list(first.trials)
    first.advance()
    for trial in trials:
        other = alone[trial.spec.blocks]
        assert numbers(trial) == numbers(other)
        mine, theirs = tensors(trial), tensors(other)
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    for blocks, trial in alone.items():
        assert numbers(resumed(opened(text, blocks, recipe), opened(text, blocks, recipe))) == numbers(trial)


def resumed(trial: Finetuning, other: Finetuning) -> Finetuning:
    """Return the other trial, continued from a checkpoint of this one after two batches."""
    left = iter([False, False, True])
    trial.advance(lambda: next(left))
    state = load(saved(trial.tensors()))
    other.restore(
        state,
        epoch=trial.epoch,
        batch=trial.batch,
        tally=RunningMetrics(*trial.tally.sums),
        evaluations=list(trial.evaluations),
        seconds=0,
        history=trial.history,
    )
    other.advance()
    return other


def test_a_weight_under_two_names_is_stored_under_both(tmp_path: Path) -> None:
    trial = opened(TWICE, 1)
    trial.advance()
    stored = load(saved(trial.trained_tensors()))
    assert stored.keys() == trial.network.model.state_dict().keys()
    assert torch.equal(stored["blocks.2.0.weight"], stored["blocks.2.4.weight"])
    path = write_source(tmp_path, "mine", trial.network.model.state_dict(), {})
    assert load(path.read_bytes()).keys() == stored.keys()


def test_tensors_that_share_no_memory_are_not_copied() -> None:
    one, other = torch.ones(3), torch.ones(4)
    found = storable({"one": one, "same": one, "part": other[:2], "other": other})
    assert [found[name].data_ptr() for name in ("one", "part")] == [one.data_ptr(), other.data_ptr()]
    assert len({tensor.untyped_storage().data_ptr() for tensor in found.values()}) == 4


@pytest.mark.parametrize("metadata", [None, {"state": "{}"}])
@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool],
    ids=str,
)
def test_saved_tensors_are_the_file_of_safetensors(dtype: torch.dtype, metadata: dict[str, str] | None) -> None:
    """Digests of networks and checkpoints are digests of these bytes."""
    tensors = {
        "weight": torch.arange(12).reshape(3, 4).to(dtype),
        "turned": torch.arange(12).reshape(3, 4).T.to(dtype),
        "number": torch.tensor(1).to(dtype),
        "nothing": torch.empty(0, 3).to(dtype),
        "other": torch.ones(2),
    }
    assert saved({**tensors, "same": tensors["weight"]}, metadata) == save(
        {**{name: tensor.contiguous() for name, tensor in tensors.items()}, "same": tensors["weight"].clone()}, metadata
    )


@pytest.mark.parametrize("blocks", [0, 3, -1])
def test_what_the_builder_fixed_is_not_trained(blocks: int) -> None:
    trial = opened(MY_VIT, blocks)
    positions = trial.network.model.stem.pos.detach().clone()
    trial.advance()
    assert torch.equal(trial.network.model.stem.pos, positions)
    assert "stem.pos" not in trial.trained_parameters
    assert ("stem.cls" in trial.trained_parameters) == (blocks == -1)


def test_a_last_layer_that_the_builder_fixed_is_trained() -> None:
    """Trials replace it by one of their own."""
    trial = opened(changed("    def forward", "        self.fc.requires_grad_(False)\n\n    def forward"), 1)
    assert {"fc.weight", "fc.bias"} <= trial.trained_parameters.keys()


def test_a_layer_used_twice_draws_twice() -> None:
    trial, drawn = opened(TWICE, 1), list[Tensor]()
    (layer,) = {m for m in trial.network.blocks[-1].modules() if isinstance(m, DrawingLayer)}
    draw = layer.draw
    assert draw is not None

    def recorded(path: str, shape: Any) -> Tensor:
        drawn.append(draw(path, shape))
        return drawn[-1]

    layer.draw = recorded
    trial.advance(lambda: trial.batch == 1)
    assert len(drawn) == 2
    assert not torch.equal(*drawn)


def test_my_net_is_as_the_packaged_ones() -> None:
    assert numbers(resumed(opened(MY_NET, 1), opened(MY_NET, 1)))
