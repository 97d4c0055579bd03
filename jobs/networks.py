"""Residual networks as one list of blocks, so that "the last k blocks" means one thing everywhere.

Shape suffixes: N images, C channels, H height, W width, K labels.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.resnet import Bottleneck, ResNet


class SmallResNet(ResNet):  # type: ignore[misc]  # torchvision ships no types
    """A bottleneck ResNet for 32 x 32 images: 11 blocks (1-1-6-3), base width 8, 0.36 M parameters.

    The same four layers as ResNet-50 with the same counting of blocks from the end; the stem is a
    3 x 3 convolution of stride 2 without max-pooling, because the images are small.
    """

    def __init__(self, labels: int, base_width: int = 8) -> None:
        # ResNet's own constructor fixes the widths at 64 to 512; its parts are used instead.
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes = base_width
        self.dilation = 1
        self.groups = 1
        self.base_width = 64
        self.conv1 = nn.Conv2d(3, base_width, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(base_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()
        self.layer1 = self._make_layer(Bottleneck, base_width, 1)
        self.layer2 = self._make_layer(Bottleneck, base_width * 2, 1, stride=2)
        self.layer3 = self._make_layer(Bottleneck, base_width * 4, 6, stride=2)
        self.layer4 = self._make_layer(Bottleneck, base_width * 8, 3, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(base_width * 8 * Bottleneck.expansion, labels)


BUILDERS: dict[str, Callable[[int], ResNet]] = {
    "resnet50": lambda labels: resnet50(weights=None, num_classes=labels),
    "resnet35-w8": SmallResNet,
}
"""The registry's architectures: number of labels to a network with fresh weights."""


class Network(nn.Module):
    """A ResNet with its normaliser in front: images in [0, 1] in, logits out.

    The trunk is the frozen part: stem and all but the last ``blocks`` blocks. The head is the rest,
    the fully-connected layer always included.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, resnet: ResNet, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.resnet = resnet
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @property
    def blocks(self) -> list[Bottleneck]:
        """All residual blocks, first to last (16 in ResNet-50)."""
        net = self.resnet
        layers = (net.layer1, net.layer2, net.layer3, net.layer4)
        return [block for layer in layers for block in layer.children() if isinstance(block, Bottleneck)]

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.head(self.trunk(images_NCHW, 0), 0)

    def normalised(self, images_NCHW: Tensor) -> Tensor:
        """What the stem takes."""
        return (images_NCHW - self.mean) / self.std

    def trunk_modules(self, cut: int) -> list[nn.Module]:
        """Stem and the first ``cut`` blocks, in order."""
        net = self.resnet
        return [net.conv1, net.bn1, net.relu, net.maxpool, *self.blocks[:cut]]

    def trunk(self, images_NCHW: Tensor, cut: int) -> Tensor:
        """Normalisation, stem and the first ``cut`` blocks: activations, N x C x H x W; after all of them features."""
        x = self.normalised(images_NCHW)
        for module in self.trunk_modules(0):
            x = module(x)
        return self.between(x, 0, cut)

    def between(self, activations_NCHW: Tensor, first: int, last: int) -> Tensor:
        """The blocks from ``first`` up to, not including, ``last``: activations, N x C x H x W.

        Pooling belongs to the last block: after it they are features, N x C.
        """
        x = activations_NCHW
        for block in self.blocks[first:last]:
            x = block(x)
        return torch.flatten(self.resnet.avgpool(x), 1) if first < last == len(self.blocks) else x

    def head(self, activations_NCHW: Tensor, cut: int) -> Tensor:
        """The blocks from ``cut`` on, with pooling, and the fully-connected layer: logits, N x K.

        Args:
            activations_NCHW: as ``trunk`` gives them.
        """
        logits_NK: Tensor = self.resnet.fc(self.between(activations_NCHW, cut, len(self.blocks)))
        return logits_NK

    def trunk_digest(self, cut: int) -> str:
        """The sha256 of what the trunk computes with: the normaliser, and names and tensors of its modules."""
        hasher = hashlib.sha256()
        states = [module.state_dict() for module in self.trunk_modules(cut)]
        for state in ({"mean": self.mean, "std": self.std}, *states):
            for name, tensor in state.items():
                hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                hasher.update(tensor.detach().cpu().contiguous().numpy().data)
        return hasher.hexdigest()

    def same_trunk(self, other: "Network", cut: int) -> bool:
        """Whether stem and first ``cut`` blocks hold the same tensors as another's, to the last bit."""
        pairs = zip(self.trunk_modules(cut), other.trunk_modules(cut), strict=True)
        return all(
            torch.equal(a, b)
            for mine, theirs in pairs
            for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
        )

    def adopt_trunk(self, other: "Network", cut: int) -> None:
        """Have another's stem and first ``cut`` blocks in place of one's own: from now on they are the same modules."""
        names = {module: name for name, module in self.resnet.named_modules()}
        for mine, theirs in zip(self.trunk_modules(cut), other.trunk_modules(cut), strict=True):
            self.resnet.set_submodule(names[mine], theirs)


def initialise(resnet: ResNet, generator: torch.Generator) -> None:
    """Fill every weight as torchvision's ResNet does, drawing from ``generator`` instead of global state."""
    for module in resnet.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5  # torch's default for Linear: U(-1/sqrt(in), 1/sqrt(in))
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
