"""Attacks on networks that compute in 16 bits: as strong as in float32, inside the ball, and the same every time."""

import pytest
import torch
from robustness.attack_steps import LinfStep
from torch import nn

from jobs.catalog.catalog import PACKAGED
from jobs.kinds.finetune.transfer import with_weights
from jobs.networks.arithmetic import FORMATS
from jobs.networks.network import Network
from jobs.perturbations.pgd import ascend, perturb
from jobs.specs.optimizers import Precision
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.packaged import packaged_weights

THREAT = ThreatModel(constraint=Constraint.L2, epsilon=1.0, steps=10)


def attacked(source: str, precision: Precision) -> tuple[torch.Tensor, float]:
    """Return the moved images, and their loss in float32."""
    card = PACKAGED.source(source)
    parts = with_weights(source, PACKAGED.architecture(card.architecture), packaged_weights(source))
    network = Network(parts, card.mean, card.std).eval().requires_grad_(False)
    images_NCHW = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    labels_N = torch.arange(8)
    network.precision = precision
    moved_NCHW = perturb(network, images_NCHW, labels_N, THREAT)
    assert moved_NCHW.dtype is torch.float32
    assert float((moved_NCHW - images_NCHW).flatten(1).norm(dim=1).max()) <= 1 + 1e-5
    network.precision = "float32"
    return moved_NCHW, float(nn.functional.cross_entropy(network(moved_NCHW), labels_N))


@pytest.mark.parametrize("source", ["fmnist_l2_eps1", "fmnist_vit6_l2_eps1"])
@pytest.mark.parametrize("precision", list(FORMATS))
def test_an_attack_in_16_bits_is_as_strong(source: str, precision: Precision) -> None:
    _, plain = attacked(source, "float32")
    moved_NCHW, loss = attacked(source, precision)
    assert loss == pytest.approx(plain, rel=0.01)
    assert torch.equal(moved_NCHW, attacked(source, precision)[0])


def test_an_image_that_overflows_does_not_round_the_gradients_of_others_to_0() -> None:
    factors_N111 = torch.tensor([torch.inf, 2.0**-14]).half().view(-1, 1, 1, 1)

    def objective(x_NCHW: torch.Tensor) -> torch.Tensor:
        return ((x_NCHW.half() * factors_N111) * 2**-14).float().sum() / 4

    start_NCHW = torch.full((2, 3, 4, 4), 0.5)
    moved_NCHW = ascend(objective, start_NCHW, LinfStep(start_NCHW, 0.1, 0.05), 1, "float16")
    assert torch.equal(moved_NCHW[1], start_NCHW[1] + 0.05)
