"""``frozen_batchnorm: calibrated``: frozen statistics are those of the trial's own subset, computed once."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from jobs.data.datasets import Dataset
from jobs.execution.checkpoints import restore_checkpoint, save_checkpoint
from jobs.kinds.finetune.transfer import calibrate, head_modules
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.networks.builders import built
from jobs.networks.network import Network
from jobs.results import Store
from tests.jobs.own_networks import BUILDER, MY_NET, changed
from tests.jobs.support import CPU, finetune_spec, finetuned, make_weights, numbers
from tests.support import present

CALIBRATED = {"frozen_batchnorm": "calibrated"}


def begun(trial: Finetuning, batches: int = 1) -> Finetuning:
    """Return a trial after its first batches."""
    for _ in range(batches):
        answers = iter([False, True])
        trial.advance(answers.__next__)
    return trial


def opened(weights: SourceWeights, data: Dataset, recipe: dict[str, Any] | None = None, **changes: Any) -> Finetuning:
    spec = finetune_spec({**CALIBRATED, **(recipe or {})}, **{"dataset": data.name, **changes})
    return Finetuning(spec, weights, data, CPU)


def frozen_layers(trial: Finetuning) -> dict[str, nn.BatchNorm2d]:
    head = {module for part in head_modules(trial.network, trial.spec.blocks) for module in part.modules()}
    layers = trial.network.model.named_modules()
    return {name: m for name, m in layers if isinstance(m, nn.BatchNorm2d) and m not in head}


def statistics(trial: Finetuning) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        name: (present(m.running_mean).clone(), present(m.running_var).clone())
        for name, m in frozen_layers(trial).items()
    }


def same(left: dict[str, tuple[Tensor, Tensor]], right: dict[str, tuple[Tensor, Tensor]]) -> bool:
    assert left.keys() == right.keys()
    assert left
    return all(torch.equal(a, b) for name in left for a, b in zip(left[name], right[name], strict=True))


@torch.no_grad()
def by_hand(trial: Finetuning) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the mean over batches of the mean and unbiased variance of every frozen layer's inputs."""
    network = copy.deepcopy(trial.network).train().requires_grad_(False)
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in frozen_layers(trial)}
    for name, module in network.model.named_modules():
        if name in seen:
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen[name].append(
                    (args[0].mean((0, 2, 3)), args[0].transpose(0, 1).flatten(1).var(1, unbiased=True))
                )
            )
    images = trial.data.train.images_NCHW[trial.subset.sort().values] / 255
    for batch in images.split(trial.spec.recipe.batch_size):  # type: ignore[no-untyped-call]  # untyped in torch
        network(batch.expand(-1, 3, -1, -1))
    return {
        name: (torch.stack([m for m, _ in found]).mean(0), torch.stack([v for _, v in found]).mean(0))
        for name, found in seen.items()
    }


@pytest.mark.parametrize("blocks", [0, 3, 9, 11])
def test_statistics_are_the_subset_s(blocks: int, weights: SourceWeights, few_digits: Dataset) -> None:
    trial = opened(weights, few_digits, blocks=blocks)
    expected = by_hand(trial)
    found = statistics(begun(trial))
    assert found.keys() == expected.keys()
    for name in expected:
        for one, other in zip(found[name], expected[name], strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("blocks", [0, 3, 11])
def test_they_stay_fixed_while_the_head_s_drift(blocks: int, weights: SourceWeights, few_digits: Dataset) -> None:
    trial = begun(opened(weights, few_digits, blocks=blocks))
    first = statistics(trial)
    trial.advance()
    assert same(statistics(trial), first)
    buffers = dict(trial.network.model.named_buffers())
    for name, count in ((name, n) for name, n in buffers.items() if name.endswith("num_batches_tracked")):
        frozen = name.removesuffix(".num_batches_tracked") in frozen_layers(trial)
        assert int(count) == (3 if frozen else 12), "three batches of the subset once; three a training epoch"


def test_the_head_begins_with_the_source_s_statistics(weights: SourceWeights, few_digits: Dataset) -> None:
    """Calibration only affects the frozen part: the head's first batch is its first."""
    trial = begun(opened(weights, few_digits, blocks=3))
    assert int(trial.network.model.layer4[0].bn1.num_batches_tracked) == 1


def test_frozen_layers_normalise_with_them_in_training(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = begun(opened(weights, few_digits, blocks=3))
    activations = trial.kept().train
    assert activations is not None
    fixed = copy.deepcopy(trial.network).eval()
    with torch.no_grad():
        expected = fixed.trunk(trial.training_images(torch.arange(20)), 8)
    assert torch.equal(activations.part(slice(0, 20)), expected)


def test_the_source_s_own_statistics_do_not_matter(weights: SourceWeights, few_digits: Dataset) -> None:
    moved = {name: t + 1 if "running" in name and "layer4" not in name else t for name, t in weights.tensors.items()}
    trial = finetuned(finetune_spec(CALIBRATED), SourceWeights(moved, "moved"), few_digits)
    assert numbers(trial) == numbers(finetuned(finetune_spec(CALIBRATED), weights, few_digits))


def test_the_three_modes_differ_and_without_a_frozen_layer_do_not(weights: SourceWeights, few_digits: Dataset) -> None:
    for blocks, different in ((3, 3), (-1, 1)):
        found = [
            numbers(finetuned(finetune_spec({"frozen_batchnorm": mode}, blocks=blocks), weights, few_digits))
            for mode in ("batch", "calibrated", "source")
        ]
        assert len({repr(rows) for rows in found}) == different


def test_calibration_sees_images_that_are_not_augmented(weights: SourceWeights, colours: Dataset) -> None:
    plain = statistics(begun(opened(weights, colours, {"transforms": "none"})))
    assert same(statistics(begun(opened(weights, colours))), plain)


def test_it_depends_on_subset_and_batch_size(weights: SourceWeights, few_digits: Dataset) -> None:
    reference = statistics(begun(opened(weights, few_digits)))
    assert same(statistics(begun(opened(weights, few_digits, epochs=2))), reference)
    assert not same(statistics(begun(opened(weights, few_digits, seed=8))), reference)
    assert not same(statistics(begun(opened(weights, few_digits, {"batch_size": 10}))), reference)
    assert not same(statistics(begun(opened(make_weights(seed=2), few_digits))), reference)


@pytest.mark.parametrize("batches", [1, 3, 5])
def test_a_restored_trial_goes_on_with_them(
    batches: int, weights: SourceWeights, few_digits: Dataset, store: Store
) -> None:
    trial = begun(opened(weights, few_digits), batches)
    save_checkpoint(store, trial)
    restored = opened(weights, few_digits)
    assert restore_checkpoint(store, restored) == []
    assert same(statistics(restored), statistics(trial))
    forwards: list[int] = []
    restored.network.model.conv1.register_forward_hook(lambda *args: forwards.append(len(args[2])))
    restored.advance()
    # one image for the shapes, and the subset; the first trial kept the activations of the test set
    assert forwards == [1, 1, 20]
    assert numbers(restored) == numbers(finetuned(restored.spec, weights, few_digits))


def test_a_pause_before_the_first_batch_changes_nothing(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = opened(weights, few_digits)
    trial.advance(lambda: True)
    trial.advance()
    assert numbers(trial) == numbers(finetuned(trial.spec, weights, few_digits))


# --- networks of users ---

IN_BLOCKS = "nn.BatchNorm2d(4), nn.ReLU())\n\n"
NORMS = {
    "InstanceNorm": changed("nn.BatchNorm2d(4)", "nn.InstanceNorm2d(4, track_running_stats=True, momentum=0.7)"),
    "both": changed(IN_BLOCKS, IN_BLOCKS.replace("nn.BatchNorm2d(4", "nn.InstanceNorm2d(4, track_running_stats=True")),
}
TWICE = changed(
    "    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())",
    "    norm = nn.BatchNorm2d(4)\n    return nn.Sequential(norm, nn.Conv2d(4, 4, 3, padding=1), norm, nn.ReLU())",
)
"""A BatchNorm layer is used twice in each block."""


def of_user(text: str) -> Network:
    """Return a network whose running statistics are not the initial ones."""
    network = Network(built(BUILDER, 10, 1, text), (0.5,) * 3, (0.25,) * 3).requires_grad_(False)
    for name, buffer in network.model.named_buffers():
        if "running" in name:
            buffer.add_(3)
    return network


def batches_of_noise() -> list[Tensor]:
    rng = torch.Generator().manual_seed(3)
    return [torch.rand(images, 3, 32, 32, generator=rng) for images in (5, 5, 2)]


@pytest.mark.parametrize("norms", NORMS)
def test_running_statistics_of_every_norm_are_the_subset_s(norms: str) -> None:
    network = of_user(NORMS[norms])
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    other = copy.deepcopy(network).train()
    up_to_the_tail = nn.Sequential(other.stem, *other.blocks)
    layers = {name: m for name, m in other.model.named_modules() if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d)}

    def look(name: str, layer: nn.Module, x_NCHW: Tensor) -> None:
        of_image = isinstance(layer, nn.InstanceNorm2d)
        values = x_NCHW.flatten(2) if of_image else x_NCHW.transpose(0, 1).flatten(1)[None]
        seen.setdefault(name, []).append((values.mean(2).mean(0), values.var(2, unbiased=True).mean(0)))

    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda layer, args, name=name: look(name, layer, args[0]))
    for batch_NCHW in batches_of_noise():
        up_to_the_tail(other.normalized(batch_NCHW))

    calibrate(network, 1, batches_of_noise())
    buffers = dict(network.model.named_buffers())
    assert seen.keys() == {"stem.1", "blocks.0.1", "blocks.1.1", "blocks.2.1"}
    assert (buffers["blocks.2.1.running_mean"] == 3).all(), "that of the head"
    for name, found in seen.items():
        for part, values in zip(("mean", "var"), zip(*found, strict=True), strict=True):
            if name != "blocks.2.1":
                expected = torch.stack(values).mean(0)
                torch.testing.assert_close(buffers[f"{name}.running_{part}"], expected, rtol=1e-4, atol=1e-6)
    assert {m.momentum for m in network.model.modules() if isinstance(m, nn.InstanceNorm2d)} <= {0.1, 0.7}


@pytest.mark.parametrize("text", [MY_NET, TWICE], ids=["once", "twice"])
def test_statistics_of_batchnorm_are_those_of_torch_s_tool(text: str) -> None:
    network, other = of_user(text), of_user(text)
    calibrate(network, 1, batches_of_noise())
    update_bn(map(other.normalized, batches_of_noise()), nn.Sequential(*other.trunk_modules(2)))
    found, expected = network.model.state_dict(), other.model.state_dict()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert (found["stem.1.running_mean"] != 3).all()
