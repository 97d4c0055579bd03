"""Attacks on networks that compute in 16 bits: as strong as in float32, inside the ball, and the same every time."""

import pytest
import torch
from torch import nn

from jobs.catalog.catalog import PACKAGED
from jobs.kinds.finetune.transfer import with_weights
from jobs.networks.arithmetic import FORMATS
from jobs.networks.network import Network
from jobs.perturbations.pgd import perturb
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
