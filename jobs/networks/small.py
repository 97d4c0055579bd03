"""The packaged miniatures: small networks for 32 x 32 images."""

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet


class SmallResNet(ResNet):  # type: ignore[misc]  # torchvision ships no types
    """A bottleneck ResNet for 32 x 32 images: 11 blocks (1-1-6-3), base width 8, 0.36 M parameters.

    Like ResNet-50 it has four layers, and blocks are counted from the end in the same way. The stem is a 3 x 3
    convolution of stride 2 without max-pooling, because the images are small.
    """

    def __init__(self, labels: int, base_width: int = 8) -> None:
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
        self.layer1 = self._make_layer(Bottleneck, base_width, 1)
        self.layer2 = self._make_layer(Bottleneck, base_width * 2, 1, stride=2)
        self.layer3 = self._make_layer(Bottleneck, base_width * 4, 6, stride=2)
        self.layer4 = self._make_layer(Bottleneck, base_width * 8, 3, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(base_width * 8 * Bottleneck.expansion, labels)
