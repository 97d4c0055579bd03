"""Feature visualization: the same as the robustness library's, closed forms, pauses, and the contents of a row."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from robustness.attack_steps import L2Step
from robustness.attacker import Attacker
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED
from jobs.data.batches import to_input
from jobs.data.datasets import Dataset
from jobs.errors import Code, InvalidRequest
from jobs.execution.attempt import AttemptStatus, attempt_trial, open_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.diagnostic.trial import ExaminedNetwork
from jobs.kinds.visualize.spec import VisualizeSpec
from jobs.kinds.visualize.trial import PassingFeatures, Visualization
from jobs.networks.builders import build
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from jobs.perturbations.pgd import ascend
from jobs.results import Committed, Store, commit, compact, read_trials
from jobs.results.compaction import Compaction
from jobs.verification.verify import verify
from tests.jobs.support import CPU, finetune_spec
from tests.packaged import packaged_dataset, packaged_weights
from tests.support import refused

OFTEN = RetentionPolicy(checkpoint_every=1, checkpoint_batches=3)


def visualize(**changes: Any) -> VisualizeSpec:
    """Return a spec for a bundled source, starting from four digits, which it was not trained on."""
    values = {"network": "fmnist_l2_eps1", "dataset": "digits", "unit": 5, "test_images": 4, "seed": 7, "recipe": {}}
    return VisualizeSpec.model_validate({**values, "step_size": 0.3, "steps": 7, **changes})


@pytest.fixture(scope="module", params=["fmnist_l2_eps1", "fmnist_natural"])
def network(request: pytest.FixtureRequest) -> Network:
    card, resnet = PACKAGED.source(request.param), resnet35_w8(10)
    resnet.load_state_dict(packaged_weights(request.param).tensors)
    return Network(resnet, card.mean, card.std).eval().requires_grad_(False)


def started(spec: VisualizeSpec, network: Network, data: Dataset) -> Visualization:
    return Visualization(spec, ExaminedNetwork(network, "0" * 64), data, CPU)


def run(spec: VisualizeSpec, network: Network, data: Dataset) -> Visualization:
    trial = started(spec, network, data)
    trial.advance()
    assert trial.done
    return trial


def seeds_of(trial: Visualization) -> Tensor:
    images_NCHW = trial.data.test.images_NCHW[trial.chosen]
    return to_input(images_NCHW, CPU, torch.contiguous_format)


def features(network: Network, x_NCHW: Tensor) -> Tensor:
    """Return pooled features, computed with hooks from the last block's sum.

    For gradients, the last ReLU is the identity.
    """
    last = network.blocks[-1]
    seen: dict[str, Tensor] = {}
    hooks = [
        last.register_forward_pre_hook(lambda _, inputs: seen.update(shortcut=inputs[0])),
        last.bn3.register_forward_hook(lambda _, __, output: seen.update(sum=output.clone())),
    ]
    network(x_NCHW)
    for hook in hooks:
        hook.remove()
    before_NCHW = seen["sum"] + seen["shortcut"]
    return (before_NCHW + (before_NCHW.clamp(min=0) - before_NCHW).detach()).mean(dim=(2, 3))


def moved_by_robustness(network: Network, x_NCHW: Tensor, spec: VisualizeSpec) -> Tensor:
    """Return images moved by the robustness library with a custom loss, from zero to the last iterate."""
    found: Tensor = Attacker(network, SimpleNamespace(mean=torch.zeros(3), std=torch.ones(3)))(
        x_NCHW,
        spec.unit,
        constraint="2",
        eps=spec.epsilon,
        step_size=spec.step_size,
        iterations=spec.steps,
        custom_loss=lambda _, x, unit: (features(network, x)[:, unit], None),
        use_best=False,
        should_normalize=False,  # the network itself normalizes
    )
    return found


@pytest.mark.parametrize("changes", [{}, {"epsilon": 0.5}, {"unit": 200, "steps": 30, "step_size": 1.0}])
def test_images_are_moved_as_by_the_robustness_library(
    changes: dict[str, Any], network: Network, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "cuda", lambda self, *args, **kwargs: self)  # the reference's loop requires it
    spec = visualize(recipe={"memory_format": "contiguous"}, **changes)  # the reference supports no other format
    trial = run(spec, network, digits)
    seeds = seeds_of(trial)
    expected = moved_by_robustness(network, seeds, spec)
    torch.testing.assert_close(trial.tensors()["moved"], expected, rtol=0, atol=1e-6)
    assert (expected - seeds).flatten(1).norm(dim=1).min() > 0.3, "every image went some way"


def test_features_are_the_network_s_own(network: Network, digits: Dataset) -> None:
    x_NCHW = to_input(digits.test.images_NCHW[:8], CPU, torch.contiguous_format)
    with torch.no_grad():
        assert torch.equal(PassingFeatures(network)(x_NCHW), network.trunk(x_NCHW, len(network.blocks)))
        torch.testing.assert_close(PassingFeatures(network)(x_NCHW), features(network, x_NCHW))


def test_a_feature_that_is_0_everywhere_still_has_a_gradient(network: Network, digits: Dataset) -> None:
    """A feature whose bias pushes it below 0 is 0 and flat.

    The gradient passed through the last ReLU is not zero.
    """
    dead = 5
    bias = network.blocks[-1].bn3.bias.clone()
    x_NCHW = to_input(digits.test.images_NCHW[:2], CPU, torch.contiguous_format).requires_grad_(True)
    try:
        network.blocks[-1].bn3.bias[dead] = -1e3
        plain = network.trunk(x_NCHW, len(network.blocks))[:, dead]
        passing = PassingFeatures(network)(x_NCHW)[:, dead]
        assert plain.tolist() == passing.tolist() == [0, 0]
        (flat,), (steep,) = (torch.autograd.grad(found.sum(), [x_NCHW]) for found in (plain, passing))
        assert flat.abs().max() == 0
        assert steep.abs().max() > 0
    finally:
        network.blocks[-1].bn3.bias.copy_(bias)


@pytest.mark.parametrize("last", [nn.ReLU6(inplace=True), nn.Hardtanh(0, 0.5), nn.ReLU(inplace=True)], ids=str)
def test_a_feature_below_0_has_a_gradient_behind_every_rectifier(last: nn.Module) -> None:
    """That of the network with the identity in place of its last rectifier: ReLU6 in MobileNetV2."""
    parts = build(PACKAGED.architecture("mobilenet_v2"), 3, torch.Generator().manual_seed(1))
    network = Network(parts, (0.5,) * 3, (0.25,) * 3).eval().requires_grad_(False)
    convolved: Any = parts.model.get_submodule("features.18")
    assert isinstance(convolved[2], nn.ReLU6)
    dead = 5
    convolved[1].bias[dead] = -1e3
    x_NCHW = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)).requires_grad_(True)

    def gradient(found_ND: Tensor) -> Tensor:
        return torch.autograd.grad(found_ND[:, dead].sum(), [x_NCHW])[0]

    convolved[2] = last
    plain, passing = network.trunk(x_NCHW, len(network.blocks)), PassingFeatures(network)(x_NCHW)
    assert torch.equal(plain, passing)
    assert plain[:, dead].tolist() == [0, 0]
    assert not gradient(plain).any()
    steep = gradient(passing)
    convolved[2] = nn.Identity()
    torch.testing.assert_close(steep, gradient(network.trunk(x_NCHW, len(network.blocks))))
    assert steep.any()


def linear() -> tuple[Tensor, Tensor, float]:
    """Return a grey image, weights (1/sqrt(3) on the first 12 pixels), and their norm of 2."""
    weights = torch.zeros(1, 3, 4, 4)
    weights.view(-1)[:12] = 1 / math.sqrt(3)
    return torch.full((1, 3, 4, 4), 0.5), weights, 2.0


def test_a_linear_feature_rises_by_step_times_its_norm_until_the_ball_binds() -> None:
    """x + t w / ||w||: the feature rises by t ||w||, with t = steps x step size, at most the radius."""
    seed, weights, norm = linear()
    for steps in (1, 4, 9):
        moved = ascend(lambda x: (x * weights).sum(), seed, L2Step(seed, 1.0, 0.2), steps)
        rise = float(((moved - seed) * weights).sum())
        assert rise == pytest.approx(min(0.2 * steps, 1.0) * norm, rel=1e-5)
        assert torch.count_nonzero(moved - seed) == 12, "nothing moves that the feature does not see"


def test_a_linear_feature_rises_until_the_box_binds() -> None:
    """Each of the 12 pixels rises by t / sqrt(12), from 0.5 to at most 1.

    The feature then rises by 12 x 0.5 / sqrt(3).
    """
    seed, weights, _ = linear()
    moved = ascend(lambda x: (x * weights).sum(), seed, L2Step(seed, 1000.0, 1.0), 3)
    assert float(((moved - seed) * weights).sum()) == pytest.approx(6 / math.sqrt(3), rel=1e-5)
    assert moved.view(-1)[:12].tolist() == [1.0] * 12


def test_each_image_stays_in_its_ball_and_in_0_1(network: Network, digits: Dataset) -> None:
    trial = run(visualize(epsilon=1.5, step_size=0.4, steps=12), network, digits)
    moved, seeds = trial.tensors()["moved"], seeds_of(trial)
    distances = (moved - seeds).flatten(1).norm(dim=1)
    assert distances.max() <= 1.5 * (1 + 1e-5)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert [row.distance for row in trial.evaluations] == pytest.approx(distances.tolist())
    assert distances.min() > 0.5


def test_rows_hold_activations_and_the_picture(network: Network, digits: Dataset) -> None:
    trial = run(visualize(), network, digits)
    seeds, moved = seeds_of(trial), trial.tensors()["moved"]
    before, after = (features(network, x)[:, 5].tolist() for x in (seeds, moved))
    rows = trial.evaluations
    assert [row.test_image for row in rows] == trial.chosen.tolist() == sorted(trial.chosen.tolist())
    assert [row.activation_before for row in rows] == pytest.approx(before, rel=1e-5)
    assert [row.activation_after for row in rows] == pytest.approx(after, rel=1e-5)
    assert all(row.activation_after > row.activation_before for row in rows)
    for row, expected_CHW in zip(rows, moved, strict=True):
        found_HWC = np.frombuffer(row.image, np.uint8).reshape(row.image_size, row.image_size, 3)
        expected_HWC = np.moveaxis(expected_CHW.numpy(), 0, 2)
        assert np.abs(found_HWC / 255 - expected_HWC).max() <= 0.5 / 255 + 1e-6


def test_parts_of_the_seed_images_are_moved_each_on_its_own(network: Network, digits: Dataset) -> None:
    """Split by the recipe, equal up to rounding, because sums are in another order."""
    whole = run(visualize(), network, digits)
    parts = run(visualize(recipe={"evaluation_batch_size": 3}), network, digits)
    assert len(started(parts.spec, network, digits).batches) == 2 * len(started(whole.spec, network, digits).batches)
    torch.testing.assert_close(whole.tensors()["moved"], parts.tensors()["moved"], rtol=0, atol=1e-4)


def test_seed_images_are_drawn_from_the_seed_and_are_the_same_for_all_networks(digits: Dataset) -> None:
    made = [Network(resnet35_w8(10), (0.0,) * 3, (1.0,) * 3) for _ in range(2)]
    chosen = [
        started(visualize(**changes), net, digits).chosen.tolist()
        for net, changes in ((made[0], {}), (made[1], {"unit": 6}), (made[0], {"seed": 8}))
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_pauses_change_nothing(store: Store, digits: Dataset) -> None:
    """Stopped every few steps, and resumed from a checkpoint by another attempt, to the last bit."""
    spec = visualize()
    whole = open_trial(store, spec, PACKAGED, CPU)
    whole.advance()
    attempt = 0
    while True:
        attempt += 1
        asked = iter([False, False, True])
        ended = attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(attempt), OFTEN, asked.__next__)
        if ended.status is AttemptStatus.COMMITTED:
            break
    assert attempt == 4, "two steps an attempt, seven of them"
    rows = read_trials(store, "visualize").to_pylist()
    for row, expected in zip(rows, whole.evaluations, strict=True):
        assert [row[name] for name in expected._fields[:-1]] == list(expected[:-1])


def test_what_a_result_says(store: Store) -> None:
    spec = visualize(steps=1)
    attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), OFTEN)
    rows = read_trials(store, "visualize").to_pylist()
    assert len(rows) == 4
    assert {(row["source"], row["finetuned"], row["unit"], row["steps"], row["image_size"]) for row in rows} == {
        ("fmnist_l2_eps1", None, 5, 1, 32)
    }
    assert {(row["source_constraint"], row["source_epsilon"], row["network_sha256"]) for row in rows} == {
        ("l2", 1.0, packaged_weights("fmnist_l2_eps1").sha256)
    }
    assert {len(row["image"]) for row in rows} == {32 * 32 * 3}
    assert verify(store) == []
    assert compact(store, "visualize") == Compaction(trials=1, rows=4, written=True)
    assert verify(store) == [], "the index holds what the file does"
    assert read_trials(store, "visualize").to_pylist() == rows
    changed = [{**row, "image": bytes(3072)} for row in rows]
    assert commit(store, "visualize", rows) is Committed.ALREADY_THERE
    assert commit(store, "visualize", changed) is Committed.CONFLICT


def test_a_fine_tuned_network_is_examined_from_images_of_another_dataset(store: Store) -> None:
    """Only its last layer is tuned: its evaluation-mode features are those of its drifted statistics."""
    tuned = finetune_spec(blocks=0, epochs=1)
    attempt_trial(
        store, open_trial(store, tuned, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=10, weights=True)
    )
    spec = visualize(network=tuned, dataset="digits_lowpass", steps=1)
    trial = open_trial(store, spec, PACKAGED, CPU)
    attempt_trial(store, trial, Attempt(), OFTEN)
    (row, *_) = read_trials(store, "visualize").to_pylist()
    assert (row["finetuned"], row["finetuned_dataset"], row["blocks"]) == (tuned.trial_id, "digits", 0)
    assert (row["dataset"], row["dataset_sha256"]) == ("digits_lowpass", packaged_dataset("digits_lowpass", 32).sha256)


def test_the_id_follows_from_what_is_examined_and_how() -> None:
    specs = [
        visualize(),
        visualize(unit=6),
        visualize(steps=8),
        visualize(step_size=0.4),
        visualize(epsilon=1.0),
        visualize(test_images=5),
        visualize(dataset="fmnist"),
        visualize(network="fmnist_natural"),
        visualize(network=finetune_spec(blocks=0)),
    ]
    assert len({spec.trial_id for spec in specs}) == len(specs)
    assert specs[0].trial_id.startswith("visualize-digits-fmnist_l2_eps1-u5-")


@pytest.mark.parametrize("changes", [{"unit": -1}, {"test_images": 0}, {"test_images": 65}, {"epsilon": 0.0}])
def test_what_no_visualization_is(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        visualize(**changes)


@pytest.mark.parametrize(
    ("spec", "code", "key", "values"),
    [
        (visualize(unit=256), Code.IMPOSSIBLE_TRIAL, "unit", ("fmnist_l2_eps1 (resnet35-w8)", "0 to 255", 256)),
        (visualize(network="natural", unit=2048), Code.IMPOSSIBLE_TRIAL, "unit", ("natural", "0 to 2047", 2048)),
        (visualize(dataset="digit"), Code.UNKNOWN_NAME, "dataset", ("'digit'", "digits")),
        (
            visualize(network="random_init_resnet35-w8"),
            Code.IMPOSSIBLE_TRIAL,
            "network",
            ("network: random_init_resnet35-w8",),
        ),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_loaded(
    spec: VisualizeSpec, code: Code, key: str, values: tuple[object, ...], store: Store
) -> None:
    with refused(code, spec.trial_id, *values, kind=InvalidRequest, key=key):
        open_trial(store, spec, PACKAGED, CPU)
