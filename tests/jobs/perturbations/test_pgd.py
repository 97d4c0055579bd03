"""Perturbations equal the robustness library's, stay inside their balls, and use only the given generator."""

import pytest
import torch
from robustness.attack_steps import AttackerStep, L2Step, LinfStep
from torch import Tensor, nn

from jobs.data.datasets import Dataset
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from jobs.perturbations.pgd import draw_noise, perturb
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.jobs.support import make_weights, moved_by_robustness
from tests.packaged import packaged_weights

MEAN, STD = (0.1801,) * 3, (0.3421,) * 3
L2 = ThreatModel(constraint=Constraint.L2, epsilon=1.0, steps=7)
LINF = ThreatModel(constraint=Constraint.LINF, epsilon=8 / 255, steps=7)
GAUSSIAN = ThreatModel(constraint=Constraint.GAUSSIAN, epsilon=1.0)
BALLS = [
    L2,
    LINF,
    GAUSSIAN,
    ThreatModel(constraint=Constraint.L2, epsilon=1.0, steps=1, step_scale=2.0),
    ThreatModel(constraint=Constraint.L2, epsilon=0.05, steps=20),
    ThreatModel(constraint=Constraint.LINF, epsilon=4 / 255, steps=1),
    ThreatModel(constraint=Constraint.LINF, epsilon=0.5, steps=3, step_scale=3.9),
    ThreatModel(constraint=Constraint.GAUSSIAN, epsilon=20.0),
    ThreatModel(constraint=Constraint.L2, epsilon=1.0, steps=2, start="random"),
    ThreatModel(constraint=Constraint.LINF, epsilon=8 / 255, steps=2, start="random"),
]


def name_of(threat: ThreatModel) -> str:
    return f"{threat.constraint}-{threat.epsilon:.3g}-{threat.steps}-{threat.start}"


@pytest.fixture(scope="module")
def network() -> Network:
    """The bundled natural source, for gradients of a trained network instead of noise."""
    net = resnet35_w8(10)
    net.load_state_dict(packaged_weights("fmnist_natural").tensors)
    return Network(net, MEAN, STD).eval()


@pytest.fixture(scope="module")
def images(digits: Dataset) -> Tensor:
    """Real images, many of whose pixels are exactly 0 or 1, so that clipping matters."""
    x_NCHW = digits.train.images_NCHW[:24].float().div(255).expand(-1, 3, -1, -1).contiguous()
    assert x_NCHW.min() == 0
    assert x_NCHW.max() == 1
    return x_NCHW


@pytest.fixture(scope="module")
def labels(digits: Dataset) -> Tensor:
    return digits.train.labels_N[:24]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved_by(
    network: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, generator: torch.Generator
) -> Tensor:
    """Return the perturbed images, with noise drawn for them."""
    return perturb(network, images, labels, threat, draw_noise(threat, tuple(images.shape), generator))


def loss(network: nn.Module, x_NCHW: Tensor, labels_N: Tensor) -> float:
    with torch.no_grad():
        return float(nn.functional.cross_entropy(network(x_NCHW), labels_N))


@pytest.mark.parametrize("threat", [ball for ball in BALLS if ball.steps and ball.start == "zero"], ids=name_of)
@pytest.mark.parametrize("made", [False, True], ids=["trained", "untrained"])
def test_pgd_is_that_of_the_robustness_library(
    threat: ThreatModel, made: bool, network: Network, images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    if made:
        net = resnet35_w8(10)
        net.load_state_dict(make_weights(seed=1).tensors)
        network = Network(net, MEAN, STD).eval()
    monkeypatch.setattr(Tensor, "cuda", lambda self, *args, **kwargs: self)  # the reference's loop requires it
    expected = moved_by_robustness(network, images, labels, threat)
    found = moved_by(network, images, labels, threat, rng())
    assert not torch.equal(found, images)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("threat", BALLS, ids=name_of)
def test_every_perturbation_stays_in_its_ball_and_in_0_1(
    threat: ThreatModel, network: Network, images: Tensor, labels: Tensor
) -> None:
    moved = moved_by(network, images, labels, threat, rng())
    distance = (moved - images).flatten(1)
    norm = distance.abs().amax(1) if threat.constraint is Constraint.LINF else distance.norm(dim=1)
    assert norm.max() <= threat.epsilon * (1 + 1e-5)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert norm.min() > 0, "every image is moved"


def test_a_large_ball_is_filled(network: Network, images: Tensor, labels: Tensor) -> None:
    """PGD uses its whole radius: step size and projection are not far too small."""
    moved = moved_by(network, images, labels, LINF, rng())
    assert float((moved - images).abs().max()) == pytest.approx(LINF.epsilon, rel=1e-5)
    grey = torch.full_like(images, 0.5)  # nothing is clipped
    norms = (moved_by(network, grey, labels, L2, rng()) - grey).flatten(1).norm(dim=1)
    assert float(norms.max()) == pytest.approx(L2.epsilon, rel=1e-5)
    assert float(norms.min()) > 0.5 * L2.epsilon


@pytest.mark.parametrize("threat", [ball for ball in BALLS if ball.steps and ball.start == "zero"], ids=name_of)
def test_attacks_raise_the_loss(threat: ThreatModel, network: Network, images: Tensor, labels: Tensor) -> None:
    """On a network for real Fashion-MNIST, every ball here raises the loss; it must at least not fall."""
    moved = moved_by(network, images, labels, threat, rng())
    assert loss(network, moved, labels) > loss(network, images, labels)


def test_more_steps_find_a_higher_loss(network: Network, images: Tensor, labels: Tensor) -> None:
    small = [ThreatModel(constraint=Constraint.L2, epsilon=0.3, steps=steps) for steps in (1, 20)]
    losses = [loss(network, moved_by(network, images, labels, threat, rng()), labels) for threat in small]
    assert losses[1] > losses[0]


def test_no_constraint_leaves_images_alone(network: Network, images: Tensor, labels: Tensor) -> None:
    none = ThreatModel(constraint=Constraint.NONE, epsilon=0)
    assert torch.equal(moved_by(network, images, labels, none, rng()), images)


def test_images_themselves_are_not_written_to(network: Network, images: Tensor, labels: Tensor) -> None:
    before = images.clone()
    for threat in BALLS:
        moved_by(network, images, labels, threat, rng())
    assert torch.equal(images, before)


def test_gaussian_noise_comes_from_the_generator(network: Network, images: Tensor, labels: Tensor) -> None:
    torch.manual_seed(1)
    first = moved_by(network, images, labels, GAUSSIAN, rng(4))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(moved_by(network, images, labels, GAUSSIAN, rng(4)), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(moved_by(network, images, labels, GAUSSIAN, rng(5)), first)


def test_gaussian_noise_is_standard_normal_before_the_projection(network: Network, labels: Tensor) -> None:
    """With an unreachable radius the noise stays as drawn; around 0.5 with std 1, clipping affects Phi(-0.5) a side."""
    grey = torch.full((24, 3, 32, 32), 0.5)
    wide = ThreatModel(constraint=Constraint.GAUSSIAN, epsilon=1e6)
    moved = moved_by(network, grey, labels, wide, rng())
    assert float((moved == 0).float().mean()) == pytest.approx(0.3085, abs=0.01)
    assert float((moved == 1).float().mean()) == pytest.approx(0.3085, abs=0.01)


def test_gaussian_noise_lies_on_the_sphere(network: Network, labels: Tensor) -> None:
    """N(0, 1) in 3,072 dimensions has norm 55, so the projection puts it on the ball's surface."""
    grey = torch.full((24, 3, 32, 32), 0.5)
    moved = moved_by(network, grey, labels, GAUSSIAN, rng())
    assert (moved - grey).flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * 24, rel=1e-5)


def test_attacks_draw_nothing_from_the_generator(network: Network, images: Tensor, labels: Tensor) -> None:
    """PGD starts at zero."""
    given = rng()
    before = given.get_state()
    for threat in (L2, LINF):
        moved_by(network, images, labels, threat, given)
    assert torch.equal(given.get_state(), before)


@pytest.mark.parametrize("threat", BALLS, ids=name_of)
def test_the_model_gets_no_gradients_and_keeps_its_state(
    threat: ThreatModel, network: Network, images: Tensor, labels: Tensor
) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    moved = moved_by(network, images, labels, threat, rng())
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not moved.requires_grad
    assert not network.training


@pytest.mark.parametrize("threat", [L2, LINF], ids=name_of)
def test_channels_last_images_give_the_same_perturbation_up_to_rounding(
    threat: ThreatModel, network: Network, images: Tensor, labels: Tensor
) -> None:
    moved = moved_by(network, images.contiguous(memory_format=torch.channels_last), labels, threat, rng())
    assert (moved - images).abs().max() > 0
    distance = (moved - images).flatten(1)
    norm = distance.norm(dim=1) if threat is L2 else distance.abs().amax(1)
    assert norm.max() <= threat.epsilon * (1 + 1e-5)


@pytest.mark.parametrize(("constraint", "step"), [(Constraint.L2, L2Step), (Constraint.LINF, LinfStep)])
def test_random_starts_are_those_of_the_robustness_library(
    constraint: Constraint, step: type[AttackerStep], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library draws from global state; with the same draws it starts at the same points."""
    threat = ThreatModel(constraint=constraint, epsilon=0.3, steps=1, start="random")
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape, generator=rng(3)))
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.rand(x.shape, generator=rng(3)))
    expected = step(images, threat.epsilon, 0.0).random_perturb(images)
    noise = draw_noise(threat, tuple(images.shape), rng(3))
    assert noise is not None
    torch.testing.assert_close((images + threat.epsilon * noise).clamp(0, 1), expected, rtol=0, atol=1e-6)


def test_a_random_start_finds_another_perturbation(network: Network, images: Tensor, labels: Tensor) -> None:
    zero = ThreatModel(constraint=Constraint.LINF, epsilon=8 / 255, steps=1)
    random = zero.model_copy(update={"start": "random"})
    first, second = (moved_by(network, images, labels, random, rng(seed)) for seed in (1, 2))
    assert not torch.equal(first, second)
    assert not torch.equal(first, moved_by(network, images, labels, zero, rng(1)))
