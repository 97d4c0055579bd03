"""Networks as one list of blocks: the same function as torchvision's, cut at any block."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.resnet import ResNet

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.costs import activation_bytes, flops_evaluated_image, flops_trained_image, parameters
from jobs.execution.operations import OPERATIONS
from jobs.networks.builders import initialize
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from tests.jobs.support import make_weights

RESNET50 = PACKAGED.architecture("resnet50")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def resnet() -> ResNet:
    net = resnet50(weights=None, num_classes=10)
    initialize(net, torch.Generator().manual_seed(0))
    frozen: ResNet = net.eval()
    return frozen


@pytest.fixture
def small() -> Network:
    net = resnet35_w8(10)
    net.load_state_dict(make_weights(seed=1).tensors)
    return Network(net, MEAN, STD).eval()


@torch.no_grad()
def test_logits_are_those_of_torchvision_s_own_forward(resnet: nn.Module) -> None:
    x_NCHW = images(2, 64)
    normalized = (x_NCHW - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    assert torch.equal(Network(resnet, MEAN, STD)(x_NCHW), resnet(normalized))


@torch.no_grad()
def test_the_small_network_s_forward_is_torchvision_s(small: Network) -> None:
    x_NCHW = images(4, 32)
    normalized = (x_NCHW - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    assert torch.equal(small(x_NCHW), small.model(normalized))


@pytest.mark.parametrize(
    ("layer", "operation"),
    [
        *((layer, "smooth-activation") for layer in (nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Sigmoid())),
        *((layer, "other-activation") for layer in (nn.Tanh(), nn.Mish(), nn.ELU(), nn.SELU(), nn.CELU())),
        *((layer, "other-activation") for layer in (nn.Softplus(), nn.LogSigmoid())),
        (nn.LayerNorm(4), "layer-norm"),
        (nn.GroupNorm(2, 4), "group-norm"),
        (nn.Conv2d(4, 4, 3, groups=2), "grouped-convolution"),
        (nn.MultiheadAttention(4, 2), "attention"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_network_computes_beyond_the_probe(layer: nn.Module, operation: str, small: Network) -> None:
    assert small.operations == ()
    model = resnet35_w8(10)
    model.layer1.add_module("added", layer)
    assert Network(model, MEAN, STD).operations == (operation,)
    assert operation in OPERATIONS


@torch.no_grad()
@pytest.mark.parametrize("cut", range(12))
def test_trunk_and_head_make_the_forward_at_every_cut(small: Network, cut: int) -> None:
    x_NCHW = images(4, 32)
    assert torch.equal(small.head(small.trunk(x_NCHW, cut), cut), small(x_NCHW))


@torch.no_grad()
@pytest.mark.parametrize("cut", [0, 7, 13, 15, 16])
def test_trunk_and_head_of_resnet50(resnet: nn.Module, cut: int) -> None:
    network = Network(resnet, MEAN, STD)
    x_NCHW = images(1, 64)
    assert torch.equal(network.head(network.trunk(x_NCHW, cut), cut), network(x_NCHW))


def test_a_cut_takes_the_first_blocks_into_the_trunk(small: Network) -> None:
    ran: list[int] = []
    for number, block in enumerate(small.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    activations = small.trunk(images(1, 32), 4)
    assert ran == [0, 1, 2, 3]
    ran.clear()
    small.head(activations, 4)
    assert ran == list(range(4, 11))


def test_small_network_has_11_blocks_and_0_36_million_parameters(small: Network) -> None:
    net = small.model
    assert [len(layer) for layer in (net.layer1, net.layer2, net.layer3, net.layer4)] == [1, 1, 6, 3]
    assert len(small.blocks) == 11
    assert sum(p.numel() for p in small.parameters()) == 359_762


def test_resnet50_has_16_blocks(resnet: ResNet) -> None:
    network = Network(resnet, MEAN, STD)
    assert len(network.blocks) == 16
    assert network.blocks[-3:] == list(resnet.layer4)
    assert network.blocks[7:13] == list(resnet.layer3)


def test_the_normalizer_is_no_parameter(small: Network) -> None:
    assert {name for name, _ in small.named_buffers()} >= {"mean", "std"}
    assert not {name for name, _ in small.named_parameters()} & {"mean", "std"}


# --- initialization ---


def test_initialisation_follows_from_the_generator_alone() -> None:
    nets = []
    for outside in (1, 2):
        torch.manual_seed(outside)
        net = resnet35_w8(10)
        initialize(net, torch.Generator().manual_seed(5))
        nets.append(net.state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_initialisation_has_torchvision_s_distributions() -> None:
    net = resnet50(weights=None)
    initialize(net, torch.Generator().manual_seed(0))
    conv = net.layer3[1].conv2.weight
    assert float(conv.detach().std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)  # Kaiming normal, fan out
    bound = 2048**-0.5
    assert float(net.fc.weight.detach().abs().max()) <= bound
    assert float(net.fc.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.01)
    assert float(net.fc.bias.detach().abs().max()) <= bound
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


def test_initialisation_reaches_every_weight() -> None:
    """No weight keeps the value that the constructor drew from global state."""
    net = resnet35_w8(10)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(float("nan"))
    initialize(net, torch.Generator().manual_seed(0))
    assert all(p.isfinite().all() for p in net.parameters())


# --- the catalogue's figures about networks ---


def test_flops_of_resnet50_by_hand() -> None:
    """4.09 GMAC at 224 pixels; the stem has 64 filters of 7 x 7 x 3 at 112 x 112 positions."""
    table = RESNET50
    assert table.stem.flops == 2 * 64 * 7 * 7 * 3 * 112 * 112
    assert table.fc.flops == 2 * 2048 * 1000
    assert table.blocks[-1].flops == 2 * 7 * 7 * (2048 * 512 + 512 * 512 * 9 + 512 * 2048)
    assert flops_evaluated_image(RESNET50) == pytest.approx(2 * 4.09e9, rel=0.002)


def test_flops_of_training_count_the_backward_of_the_head_twice_but_for_its_input() -> None:
    table = RESNET50
    blocks = [part.flops for part in table.blocks]
    forward = table.stem.flops + sum(blocks) + table.fc.flops
    layer4_0 = 2 * 1024 * (512 * 14 * 14 + 2048 * 7 * 7)  # its first convolution and its shortcut
    heads = {0: (0, table.fc.flops), 3: (sum(blocks[13:]), layer4_0), -1: (forward - table.fc.flops, table.stem.flops)}
    for trained, (head, to_input) in heads.items():
        flops = flops_trained_image(RESNET50, trained)
        assert flops.trunk + flops.head_forward == forward
        assert flops.head_backward == 2 * (head + table.fc.flops) - to_input


def test_bytes_of_activations_of_resnet50() -> None:
    """Figures of the guide: 82 MB, 4 GB and 8 GB for 10,000 images."""
    assert activation_bytes(RESNET50, 0) == 4 * 2048
    assert activation_bytes(RESNET50, 1) == 4 * 2048 * 7 * 7
    assert activation_bytes(RESNET50, 3) == 4 * 1024 * 14 * 14


def test_parameters_of_resnet50() -> None:
    """The published 25,557,032, of which 2,049,000 are in the FC layer."""
    assert parameters(RESNET50) == 25_557_032
    assert parameters(RESNET50, 0) == 2_049_000
