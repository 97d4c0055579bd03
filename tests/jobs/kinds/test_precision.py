"""Kinds that examine a network, in 16 bits: torch's own autocast as the oracle, and the same bits after any pause."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any, NamedTuple

import pytest
import torch
from robustness.attack_steps import L2Step
from safetensors.torch import load, save
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED
from jobs.data.batches import to_input
from jobs.data.datasets import Dataset, ImageSet
from jobs.data.subsets import draw_subset
from jobs.execution.determinism import deterministic
from jobs.kinds.diagnostic.trial import DiagnosticTrial, ExaminedNetwork
from jobs.kinds.influence.spec import InfluenceSpec
from jobs.kinds.influence.trial import InfluenceTrial
from jobs.kinds.shape_bias.spec import ShapeBiasSpec
from jobs.kinds.shape_bias.trial import ShapeBiasTrial
from jobs.kinds.visualize.spec import VisualizeSpec
from jobs.kinds.visualize.trial import Visualization
from jobs.networks.arithmetic import FORMATS
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from jobs.provenance import History
from jobs.specs.optimizers import Execution, Precision
from tests.jobs.support import CPU, finetune_spec
from tests.packaged import packaged_dataset, packaged_weights

HALVES = pytest.mark.parametrize("precision", list(FORMATS))
TESTS, IMAGES = 70, 70


def network() -> Network:
    """A bundled source in place of a fine-tuned network, because any network will do."""
    card, resnet = PACKAGED.source("fmnist_l2_eps1"), resnet35_w8(10)
    resnet.load_state_dict(packaged_weights("fmnist_l2_eps1").tensors)
    return Network(resnet, card.mean, card.std).eval()


def few(name: str) -> Dataset:
    """The first test images: more than one batch."""
    data = packaged_dataset(name, 32)
    cues = data.cues and data.cues._replace(textures_N=data.cues.textures_N[:TESTS])
    return data._replace(test=ImageSet(data.test.images_NCHW[:TESTS], data.test.labels_N[:TESTS]), cues=cues)


def influence(precision: Precision, measure: str = "fisher") -> InfluenceTrial:
    """A trial with two blocks of test images."""
    values = {"network": finetune_spec(images=IMAGES), "dataset": "digits", "seed": 7, "top": 3, "damping": 0.01}
    cutoffs = {"cutoff_absolute": None, "cutoff_relative": None}
    spec = InfluenceSpec.model_validate(
        {**values, **cutoffs, "measure": measure, "recipe": {"precision": precision, "evaluation_batch_size": 24}}
    )
    return InfluenceTrial(spec, ExaminedNetwork(network(), "0" * 64), few("digits"), CPU)


def shape_bias(precision: Precision) -> ShapeBiasTrial:
    recipe = Execution(precision=precision, evaluation_batch_size=24)
    spec = ShapeBiasSpec(network=finetune_spec(), dataset="digits_conflict", seed=7, recipe=recipe)
    return ShapeBiasTrial(spec, ExaminedNetwork(network(), "0" * 64), few("digits_conflict"), CPU)


def visualize(precision: Precision) -> Visualization:
    recipe = {"precision": precision, "memory_format": "contiguous", "evaluation_batch_size": 3}
    values = {"network": "fmnist_l2_eps1", "dataset": "digits", "unit": 5, "test_images": 4, "seed": 7}
    spec = VisualizeSpec.model_validate({**values, "recipe": recipe, "step_size": 0.3, "steps": 4})
    return Visualization(spec, ExaminedNetwork(network(), "0" * 64), few("digits"), CPU)


KINDS: dict[str, Callable[[Precision], DiagnosticTrial[Any, Any]]] = {
    "fisher": influence,
    "influence": lambda precision: influence(precision, "influence"),
    "shape_bias": shape_bias,
    "visualize": visualize,
}


def rows_of(trial: DiagnosticTrial[Any, Any]) -> list[Any]:
    return [row._replace(seconds=0.0) for row in trial.evaluations]


def one_batch() -> Callable[[], bool]:
    answers = cycle([False, True])
    return lambda: next(answers)


@HALVES
@pytest.mark.parametrize("kind", KINDS)
def test_every_run_computes_the_same_wherever_it_was_paused(kind: str, precision: Precision) -> None:
    """From a file at every batch; and not what float32 computes."""
    whole, again, trial, plain = (KINDS[kind](each) for each in (precision, precision, precision, "float32"))
    for one in (whole, again, plain):
        one.advance()
    steps = 0
    while not trial.done:
        trial.advance(one_batch())
        steps += 1
        stored = load(save({name: tensor.detach().contiguous() for name, tensor in trial.tensors().items()}))
        trial = KINDS[kind](precision).restore(
            stored,
            epoch=trial.epoch,
            batch=trial.batch,
            tally=trial.tally,
            evaluations=trial.evaluations,
            seconds=trial.seconds,
            history=History(),
        )
    assert steps > 1
    assert rows_of(whole) == rows_of(again) == rows_of(trial)
    assert [name for name, tensor in whole.tensors().items() if not torch.equal(tensor, again.tensors()[name])] == []
    if kind != "shape_bias":  # its rows are decisions, which 16 bits need not change
        assert rows_of(whole) != rows_of(plain)


class Seen(NamedTuple):
    """What the last layer receives and returns, N x D and N x K."""

    features: Tensor
    logits: Tensor


def seen_by_autocast(trial: DiagnosticTrial[Any, Any], images: ImageSet, chosen: Tensor) -> Seen:
    """Return what torch's autocast computes with torchvision's own forward pass, in the trial's batches."""
    net, recipe, received, returned = network(), trial.spec.recipe, list[Tensor](), list[Tensor]()
    form = torch.channels_last if recipe.memory_format == "channels_last" else torch.contiguous_format
    net = net.to(memory_format=form)
    net.fc.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    with torch.no_grad(), deterministic(recipe), torch.autocast("cpu", FORMATS[recipe.precision]):
        for part in torch.split(chosen, recipe.evaluation_batch_size):
            x_NCHW = to_input(images.images_NCHW[part], CPU, form)
            returned.append(net.model((x_NCHW - net.mean) / net.std))
    return Seen(torch.cat(received), torch.cat(returned))


@HALVES
def test_decisions_are_those_of_autocast(precision: Precision) -> None:
    trial = shape_bias(precision)
    trial.advance()
    assert trial.data.cues is not None
    seen = seen_by_autocast(trial, trial.data.test, torch.arange(TESTS))
    assert seen.logits.dtype is FORMATS[precision]
    names = trial.data.cues.names
    assert [row.decision for row in trial.evaluations] == [names[i] for i in seen.logits.float().argmax(1).tolist()]


@HALVES
def test_influence_is_computed_in_float64_from_features_in_16_bits(precision: Precision) -> None:
    """The last layer and all that follows are as precise as in float32: only the features have 16 bits."""
    trial = influence(precision)
    trial.advance()
    subset, fc = draw_subset(trial.data.train.labels_N, IMAGES, 7), network().fc
    train = seen_by_autocast(trial, trial.data.train, subset).features
    test = seen_by_autocast(trial, trial.data.test, torch.arange(TESTS)).features
    assert train.dtype is test.dtype is FORMATS[precision]
    logits_MK = fc(test.float())
    assert [row.predicted_label for row in trial.evaluations] == logits_MK.argmax(1).tolist()
    losses_M = nn.functional.cross_entropy(logits_MK, trial.data.test.labels_N, reduction="none")
    assert [row.test_loss for row in trial.evaluations] == losses_M.tolist()

    def gradients(x_ND: Tensor, labels_N: Tensor) -> Tensor:
        x_NJ = torch.cat([x_ND.double(), torch.ones(len(x_ND), 1)], 1)
        fc_KJ = torch.cat([fc.weight, fc.bias[:, None]], 1).detach().double()
        residuals_NK = (x_NJ @ fc_KJ.T).softmax(1) - nn.functional.one_hot(labels_N, 10)
        return torch.einsum("nk,nj->nkj", residuals_NK, x_NJ).flatten(1)

    train_NP = gradients(train, trial.data.train.labels_N[subset])
    test_MP = gradients(test, trial.data.test.labels_N)
    damped_PP = train_NP.T @ train_NP / IMAGES + 0.01 * torch.eye(train_NP.shape[1], dtype=torch.float64)
    expected_MN = test_MP @ torch.linalg.solve(damped_PP, train_NP.T)
    values_MT = torch.tensor([row.values for row in trial.evaluations], dtype=torch.float64)
    torch.testing.assert_close(values_MT, expected_MN.topk(3, dim=1).values, rtol=1e-8, atol=0)
    assert {tensor.dtype for tensor in trial.tensors().values() if tensor.is_floating_point()} == {torch.float64}


@contextmanager
def last_relu_passing(net: Network) -> Iterator[None]:
    """Make the gradient pass the last ReLU: the last call of the last block's."""
    calls = 0

    def passing(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        nonlocal calls
        calls += 1
        return None if calls % 3 else before[0] + (output - before[0]).detach()

    before: list[Tensor] = []
    relu = net.blocks[-1].relu
    relu.inplace = False
    hooks = [
        relu.register_forward_pre_hook(lambda _, inputs: before.__setitem__(slice(None), [inputs[0]])),
        relu.register_forward_hook(passing),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@HALVES
def test_images_are_moved_along_autocast_s_gradients(precision: Precision) -> None:
    trial, net = visualize(precision), network().requires_grad_(False)
    seeds_NCHW = to_input(trial.data.test.images_NCHW[trial.chosen], CPU, torch.contiguous_format)
    trial.advance()
    moved: list[Tensor] = []
    with deterministic(trial.spec.recipe), last_relu_passing(net):
        for seeds in torch.split(seeds_NCHW, 3):
            x, step = seeds, L2Step(seeds, trial.spec.epsilon, trial.spec.step_size)
            for _ in range(trial.spec.steps):
                x = x.detach().requires_grad_(True)
                with torch.autocast("cpu", FORMATS[precision], cache_enabled=False):
                    features_ND = net.model.avgpool(body(net, (x - net.mean) / net.std)).flatten(1)
                feature = features_ND[:, trial.spec.unit].float().mean()
                scales = [2**power for power in range(16, -1, -1)] if precision == "float16" else [1]
                gradients = (torch.autograd.grad(feature * scale, [x], retain_graph=True)[0] for scale in scales)
                gradient = next(gradient for gradient in gradients if gradient.isfinite().all())
                x = step.project(step.step(x, gradient)).detach()
            moved.append(x)
    found = trial.tensors()["moved"]
    assert found.dtype is torch.float32
    assert (found - seeds_NCHW).flatten(1).norm(dim=1).min() > 0.3
    torch.testing.assert_close(found, torch.cat(moved), rtol=0, atol=1e-6)


def body(net: Network, x: Tensor) -> Tensor:
    """Return what torchvision's network computes before it pools."""
    m = net.model
    for layer in (m.conv1, m.bn1, m.relu, m.maxpool, m.layer1, m.layer2, m.layer3, m.layer4):
        x = layer(x)
    return x
