"""From a source to a network for fine-tuning: what is frozen, what is new, what drifts, how images are normalized."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED
from jobs.data.batches import batch_indices
from jobs.data.datasets import Dataset
from jobs.errors import Code, DamagedFile
from jobs.execution.checkpoints import restore_checkpoint, save_checkpoint
from jobs.execution.metrics import evaluating
from jobs.kinds.finetune.transfer import freeze, head_modules, set_training_modes, transfer
from jobs.kinds.finetune.trial import Finetuning
from jobs.kinds.pretrain.spec import pretrain_spec as spec_of_source
from jobs.kinds.pretrain.trial import initial_network
from jobs.models.weights import SourceWeights
from jobs.networks.network import Network
from jobs.results import Store
from tests.jobs.support import CPU, built, finetune_spec, finetuned, make_weights, numbers
from tests.packaged import packaged_weights
from tests.support import refused

HEADS = {
    0: [],
    1: ["layer4.2"],
    3: ["layer4.0", "layer4.1", "layer4.2"],
    9: [*(f"layer3.{i}" for i in range(6)), *(f"layer4.{i}" for i in range(3))],
    11: ["layer1.0", "layer2.0", *(f"layer3.{i}" for i in range(6)), *(f"layer4.{i}" for i in range(3))],
}
"""Figure 9 for the miniature (layers 1-1-6-3), whose last two layers are as long as ResNet-50's."""


def in_head(name: str, blocks: int) -> bool:
    """Return whether a tensor of the ResNet belongs to the fine-tuned part."""
    return blocks == -1 or name.startswith("fc.") or any(name.startswith(f"{block}.") for block in HEADS[blocks])


def state(trial: Finetuning) -> dict[str, Tensor]:
    return dict(trial.network.model.state_dict())


# --- what is frozen ---


@pytest.mark.parametrize("blocks", [0, 3, -1])
@pytest.mark.parametrize("mode", ["batch", "calibrated", "source"])
def test_modes_before_a_batch_are_the_recipe_s_whatever_ran_before(blocks: int, mode: str) -> None:
    network = Network(built("resnet35-w8", 10), (0.0,) * 3, (1.0,) * 3)
    spec = finetune_spec({"frozen_batchnorm": mode}, blocks=blocks)
    freeze(network, blocks)

    def modes() -> dict[str, bool]:
        """Return the modes of layers with parameters; ReLU and pooling do the same in both."""
        set_training_modes(network, spec)
        return {name: module.training for name, module in network.model.named_modules() if module._parameters}

    expected = {name: mode == "batch" or in_head(f"{name}.", blocks) for name in modes()}
    for before in (lambda: None, network.eval, network.train):
        before()
        assert modes() == expected
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert modes() == expected


@pytest.mark.parametrize("blocks", [0, 1, 3, 9, 11, -1])
@pytest.mark.parametrize("mode", ["batch", "calibrated", "source"])
def test_frozen_parameters_stay_and_trained_ones_change(
    blocks: int, mode: str, weights: SourceWeights, few_digits: Dataset
) -> None:
    trial = Finetuning(finetune_spec({"frozen_batchnorm": mode}, blocks=blocks), weights, few_digits, CPU)
    start = {name: tensor.clone() for name, tensor in state(trial).items()}
    trial.advance()
    for name, _ in trial.network.model.named_parameters():
        after = state(trial)[name]
        if in_head(name, blocks):
            assert not torch.equal(after, start[name]), f"{name} is fine-tuned and did not change"
        else:
            assert torch.equal(after, weights.tensors[name]), f"{name} is frozen and changed"


def batchnorm_buffers(tensors: dict[str, Tensor]) -> list[str]:
    return [name for name in tensors if name.endswith(("running_mean", "running_var"))]


@pytest.mark.parametrize("blocks", [0, 3, 9])
def test_in_batch_mode_all_batchnorm_statistics_drift(blocks: int, weights: SourceWeights, few_digits: Dataset) -> None:
    after = state(finetuned(finetune_spec({"frozen_batchnorm": "batch"}, blocks=blocks), weights, few_digits))
    for name in batchnorm_buffers(after):
        assert not torch.equal(after[name], weights.tensors[name]), name
    assert after["bn1.num_batches_tracked"] == 12, "once a training batch, never in evaluation"


@pytest.mark.parametrize("blocks", [0, 3, 9])
def test_in_source_mode_only_the_head_s_statistics_drift(
    blocks: int, weights: SourceWeights, few_digits: Dataset
) -> None:
    after = state(finetuned(finetune_spec({"frozen_batchnorm": "source"}, blocks=blocks), weights, few_digits))
    for name in batchnorm_buffers(after):
        assert torch.equal(after[name], weights.tensors[name]) != in_head(name, blocks), name


def test_in_source_mode_frozen_blocks_normalise_with_the_source_s_statistics(
    weights: SourceWeights, few_digits: Dataset
) -> None:
    """The first fine-tuned block's inputs equal the source's evaluation-mode features only in this mode."""
    for mode, equal in (("source", True), ("batch", False)):
        spec = finetune_spec({"frozen_batchnorm": mode, "batch_size": 20}, epochs=1)
        trial = Finetuning(spec, weights, few_digits, CPU)
        source = Finetuning(spec, weights, few_digits, CPU).network.eval().to(memory_format=torch.channels_last)
        taken: list[Tensor] = []
        trial.network.blocks[8].register_forward_pre_hook(lambda _, args, taken=taken: taken.append(args[0].clone()))
        trial.advance()
        with torch.no_grad():
            expected = source.trunk(trial.training_images(batch_indices(20, 20, spec.seed, 1)[0]), 8)
        assert torch.allclose(taken[0], expected, rtol=1e-5, atol=1e-6) == equal


def test_the_optimizer_knows_only_what_is_trained(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = Finetuning(finetune_spec(blocks=1), weights, few_digits, CPU)
    optimized = {id(p) for group in trial.optimizer.param_groups for p in group["params"]}
    expected = {id(p) for name, p in trial.network.model.named_parameters() if in_head(name, 1)}
    assert optimized == expected == {id(p) for p in trial.trained_parameters.values()}


def test_the_optimizer_is_the_recipe_s(weights: SourceWeights, few_digits: Dataset) -> None:
    recipe = {"momentum": 0.7, "weight_decay": 0.01, "learning_rate": 0.3}
    trial = Finetuning(finetune_spec(recipe, epochs=1), weights, few_digits, CPU)
    trial.advance()
    (group,) = trial.optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], group["lr"], group["nesterov"]) == (0.7, 0.01, 0.3, False)


def test_every_epoch_trains_at_its_learning_rate(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = Finetuning(finetune_spec(epochs=6), weights, few_digits, CPU)
    rates = []
    trial.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    trial.advance()
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 6 + [0.001] * 6)


# --- counting blocks (Figure 9) ---


def trained_blocks(network: Network) -> list[str]:
    names = {id(module): name for name, module in network.model.named_modules()}
    return [names[id(block)] for block in network.blocks if all(p.requires_grad for p in block.parameters())]


def trained_convolutions(network: Network) -> int:
    return sum(isinstance(m, nn.Conv2d) and m.weight.requires_grad for m in network.modules())


@pytest.mark.parametrize("architecture", ["resnet50", "resnet35-w8"])
@pytest.mark.parametrize(("blocks", "downsamples"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (9, 2)])
def test_blocks_are_counted_from_the_end(architecture: str, blocks: int, downsamples: int) -> None:
    """k = 3 is layer4, k = 9 is layer4 and all six of layer3.

    Each block has three convolutions, and one more where it shrinks.
    """
    network = Network(built(architecture, 10), (0.0,) * 3, (1.0,) * 3)
    freeze(network, blocks)
    nine = [*(f"layer3.{i}" for i in range(6)), *(f"layer4.{i}" for i in range(3))]
    assert trained_blocks(network) == nine[9 - blocks :]
    assert trained_convolutions(network) == 3 * blocks + downsamples
    assert network.fc.weight.requires_grad
    assert network.fc.bias.requires_grad
    assert not network.model.conv1.weight.requires_grad


def test_all_blocks_and_everything_differ_by_the_stem() -> None:
    network = Network(built("resnet50", 10), (0.0,) * 3, (1.0,) * 3)
    freeze(network, 16)
    frozen = {name for name, p in network.model.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1.weight", "bn1.weight", "bn1.bias"}
    freeze(network, -1)
    assert all(p.requires_grad for p in network.parameters())
    assert trained_convolutions(network) == 53


def test_freezing_again_replaces_what_was_frozen() -> None:
    network = Network(built("resnet35-w8", 10), (0.0,) * 3, (1.0,) * 3)
    freeze(network, -1)
    freeze(network, 1)
    assert trained_blocks(network) == ["layer4.2"]


def test_head_modules_are_in_order() -> None:
    network = Network(built("resnet35-w8", 10), (0.0,) * 3, (1.0,) * 3)
    assert head_modules(network, 2) == [network.blocks[9], network.blocks[10], network.tail, network.fc]
    assert head_modules(network, 0) == [network.fc]


# --- the new FC layer ---


def fc(weights: SourceWeights, recipe: dict[str, Any] | None = None, **changes: Any) -> nn.Linear:
    fresh: nn.Linear = transfer(finetune_spec(recipe, **changes), weights).fc
    return fresh


def test_the_fc_layer_is_the_same_for_every_source_and_every_k(
    weights: SourceWeights, other_weights: SourceWeights
) -> None:
    expected = fc(weights)
    for given, changes in (
        (weights, {"blocks": 0}),
        (weights, {"blocks": -1}),
        (other_weights, {"source": "fmnist_natural", "blocks": 9}),
        (make_weights(seed=3, labels=7), {"images": 40}),
    ):
        assert torch.equal(fc(given, **changes).weight, expected.weight)


def test_the_fc_layer_comes_from_the_seed(weights: SourceWeights) -> None:
    torch.manual_seed(1)
    first = fc(weights, seed=1).weight
    torch.manual_seed(2)
    assert torch.equal(fc(weights, seed=1).weight, first)
    assert not torch.equal(fc(weights, seed=2).weight, first)


def test_the_fc_layer_is_standard_normal_with_zero_bias(weights: SourceWeights) -> None:
    layer = fc(weights)
    draws = torch.cat([fc(weights, seed=seed).weight.detach().flatten() for seed in range(20)])
    assert float(draws.mean()) == pytest.approx(0, abs=0.02)
    assert float(draws.std()) == pytest.approx(1, abs=0.02)
    assert float((draws.abs() > 1.96).float().mean()) == pytest.approx(0.05, abs=0.005)
    assert (layer.bias == 0).all()


def test_the_default_fc_layer_is_torch_s(weights: SourceWeights) -> None:
    """U(-1/sqrt(256), 1/sqrt(256)) for weights and bias."""
    layer = fc(weights, {"fc_init": "default"})
    assert float(layer.weight.detach().abs().max()) == pytest.approx(1 / 16, rel=0.01)
    assert float(layer.weight.detach().abs().max()) <= 1 / 16
    assert float(layer.weight.detach().std()) == pytest.approx(1 / 16 / 3**0.5, rel=0.05)
    assert 0 < float(layer.bias.detach().abs().max()) <= 1 / 16


def test_the_fc_layer_has_the_target_s_labels() -> None:
    weights = SourceWeights(dict(built("resnet50", 1000).state_dict()), "r")
    layer = transfer(finetune_spec(source="natural", dataset="cifar100"), weights).fc
    assert layer.weight.shape == (100, 2048)


# --- random initialization ---

DRAWN = "random_init_resnet35-w8"


def drawn(recipe: dict[str, Any] | None = None, **changes: Any) -> Network:
    return transfer(finetune_spec(recipe, source=DRAWN, **changes), packaged_weights(DRAWN))


def assert_same(one: Network, other: Network) -> None:
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


def test_a_random_network_comes_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = drawn(seed=1, blocks=-1)
    torch.manual_seed(2)
    assert_same(drawn({"normalization": "target"}, seed=1, blocks=3, images=40), first)
    assert not torch.equal(drawn(seed=2, blocks=-1).model.conv1.weight, first.model.conv1.weight)


def test_a_random_network_is_the_one_that_pretraining_begins_with() -> None:
    spec = spec_of_source(PACKAGED.source("fmnist_natural"), PACKAGED)
    assert_same(drawn(seed=spec.seed), initial_network(spec))


def test_drawing_a_network_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    drawn()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_random_network_keeps_torch_s_fc_layer() -> None:
    """For any ``fc_init``: U(-1/sqrt(256), 1/sqrt(256)) for weights and bias."""
    layer = drawn({"fc_init": "normal"}, blocks=-1).fc
    assert torch.equal(layer.weight, drawn({"fc_init": "default"}, blocks=-1).fc.weight)
    assert float(layer.weight.detach().abs().max()) == pytest.approx(1 / 16, rel=0.01)
    assert 0 < float(layer.bias.detach().abs().max()) <= 1 / 16


def test_a_random_trial_continues_as_if_it_had_not_stopped(few_digits: Dataset, store: Store) -> None:
    spec = finetune_spec(source=DRAWN, blocks=-1)
    whole = finetuned(spec, packaged_weights(DRAWN), few_digits)
    stopped = Finetuning(spec, packaged_weights(DRAWN), few_digits, CPU)
    stopped.advance(lambda: stopped.epoch == 2 and stopped.batch == 1)
    save_checkpoint(store, stopped)
    continued = Finetuning(spec, packaged_weights(DRAWN), few_digits, CPU)
    restore_checkpoint(store, continued)
    assert (continued.epoch, continued.batch) == (2, 1)
    continued.advance()
    assert numbers(continued) == numbers(whole)
    assert_same(continued.network, whole.network)


def test_random_sources_have_a_digest_of_their_own_and_no_tensors() -> None:
    one, other = packaged_weights(DRAWN), packaged_weights("random_init")
    assert one.tensors == other.tensors == {}
    assert one.sha256 != other.sha256
    assert re.fullmatch("[0-9a-f]{64}", one.sha256)


def test_random_resnet50_has_the_target_s_labels() -> None:
    network = transfer(
        finetune_spec(source="random_init", dataset="cifar100", blocks=-1), packaged_weights("random_init")
    )
    assert network.fc.weight.shape == (100, 2048)
    assert all(parameter.requires_grad for parameter in network.parameters())


# --- normalization ---

FMNIST = (0.1801, 0.3421)
DIGITS = (0.3050, 0.3753)


@pytest.mark.parametrize(
    ("normalization", "source", "expected"),
    [
        ("source", "fmnist_natural", FMNIST),
        ("source", "fmnist_l2_eps1", FMNIST),
        ("target", "fmnist_natural", DIGITS),
        ("target", "fmnist_l2_eps1", DIGITS),
        ("as-released", "fmnist_natural", DIGITS),
        ("as-released", "fmnist_l2_eps1", FMNIST),
        ("as-released", "fmnist_gaussian_l2_eps1", FMNIST),
        ("as-released", DRAWN, DIGITS),
        ("source", DRAWN, FMNIST),
    ],
)
def test_normalisation(normalization: str, source: str, expected: tuple[float, float], weights: SourceWeights) -> None:
    network = transfer(finetune_spec({"normalization": normalization}, source=source), weights)
    assert network.mean.flatten().tolist() == pytest.approx([expected[0]] * 3)
    assert network.std.flatten().tolist() == pytest.approx([expected[1]] * 3)


def test_normalisation_of_colour_datasets() -> None:
    weights = SourceWeights(dict(built("resnet50", 1000).state_dict()), "r")
    target, imagenet = [0.4914, 0.4822, 0.4465], [0.485, 0.456, 0.406]
    # every checkpoint of the robustness library contains a normalizer, including the hub's natural one
    for source, mean in (("natural", target), ("sin", target), ("l2_eps3", imagenet), ("hf_l2_eps0", imagenet)):
        spec = finetune_spec({"normalization": "as-released"}, source=source, dataset="cifar10")
        assert transfer(spec, weights).mean.flatten().tolist() == pytest.approx(mean)


def test_normalisation_stays_fixed(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = finetuned(finetune_spec(blocks=-1), weights, few_digits)
    assert trial.network.mean.flatten().tolist() == pytest.approx([FMNIST[0]] * 3)


# --- weights that do not fit ---


def without(weights: SourceWeights, name: str) -> SourceWeights:
    return SourceWeights({key: value for key, value in weights.tensors.items() if key != name}, "x")


@pytest.mark.parametrize("name", ["layer3.5.conv2.weight", "bn1.running_mean", "fc.weight", "fc.bias"])
def test_weights_with_a_tensor_missing_are_refused(name: str, weights: SourceWeights) -> None:
    with refused(Code.DAMAGED_WEIGHTS, "'fmnist_l2_eps1'", "resnet35-w8", name, kind=DamagedFile):
        transfer(finetune_spec(), without(weights, name))


def test_weights_with_a_tensor_too_many_are_refused(weights: SourceWeights) -> None:
    with refused(Code.DAMAGED_WEIGHTS, "'fmnist_l2_eps1'", "resnet35-w8", '"extra"', kind=DamagedFile):
        transfer(finetune_spec(), SourceWeights({**weights.tensors, "extra": torch.zeros(1)}, "x"))


def test_weights_of_another_architecture_are_refused(weights: SourceWeights) -> None:
    resnet50 = SourceWeights(dict(built("resnet50", 10).state_dict()), "x")
    with refused(Code.DAMAGED_WEIGHTS, "'fmnist_l2_eps1'", "resnet35-w8", kind=DamagedFile):
        transfer(finetune_spec(), resnet50)
    with refused(Code.DAMAGED_WEIGHTS, "'natural'", "resnet50", kind=DamagedFile):
        transfer(finetune_spec(source="natural"), weights)
