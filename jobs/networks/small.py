"""The packaged miniatures: small networks for 32 x 32 images."""

from collections.abc import Sequence

from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


class SmallResNet(ResNet):  # type: ignore[misc]  # torchvision ships no types
    """A ResNet for 32 x 32 images.

    Like ResNet-50 it has four layers, and blocks are counted from the end in the same way. The stem is a 3 x 3
    convolution of stride 2 without max-pooling, because the images are small.
    """

    def __init__(
        self, labels: int, block: type[BasicBlock | Bottleneck], blocks: Sequence[int], base_width: int
    ) -> None:
        """Build the network with fresh weights.

        Args:
            block: ``BasicBlock`` or ``Bottleneck``.
            blocks: number of blocks in each of the four layers.
            base_width: channels of the stem and of the first layer; each further layer doubles them.
        """
        # ResNet's constructor fixes the widths at 64 to 512, so it is bypassed and only its parts are used.
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
        self.layer1 = self._make_layer(block, base_width, blocks[0])
        self.layer2 = self._make_layer(block, base_width * 2, blocks[1], stride=2)
        self.layer3 = self._make_layer(block, base_width * 4, blocks[2], stride=2)
        self.layer4 = self._make_layer(block, base_width * 8, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(base_width * 8 * block.expansion, labels)


def resnet35_w8(labels: int) -> ResNet:
    """Build a ResNet of 11 bottleneck blocks, base width 8: 0.36 M parameters."""
    return SmallResNet(labels, Bottleneck, blocks=(1, 1, 6, 3), base_width=8)


def resnet18_w16(labels: int) -> ResNet:
    """Build ResNet-18 with a quarter of its channels: 8 basic blocks, 0.70 M parameters."""
    return SmallResNet(labels, BasicBlock, blocks=(2, 2, 2, 2), base_width=16)


def vit6_d64(labels: int) -> VisionTransformer:
    """Build a vision transformer of 6 blocks, 64 features, 4 heads and patches of 8 x 8 pixels: 0.22 M parameters."""
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=6, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=labels
    )
