"""The parts of torchvision's classification networks, family by family.

Each function returns the modules of a network in the order in which its ``forward`` runs them, as stem, blocks and
tail. That the parts compute the same bits as ``forward`` is tested for every packaged architecture, and checked by
``jobs.networks.describe`` for any other.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torchvision.models import (
    ConvNeXt,
    DenseNet,
    MNASNet,
    MobileNetV2,
    ResNet,
    ShuffleNetV2,
    SwinTransformer,
    VisionTransformer,
)
from torchvision.models.densenet import _DenseBlock
from torchvision.models.mnasnet import _InvertedResidual
from torchvision.models.vgg import VGG

from jobs.networks.parts import Parts, in_order


class Mean(nn.Module):
    """Global average pooling, written as networks without a pooling layer write it: N x C x H x W to N x C."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW.mean([2, 3])


def resnet(model: ResNet) -> Parts:
    """Blocks: the residual blocks, also of ResNeXt and wide ResNets."""
    blocks = [block for layer in (model.layer1, model.layer2, model.layer3, model.layer4) for block in layer]
    steps = [model.conv1, model.bn1, model.relu, model.maxpool, *blocks, model.avgpool, nn.Flatten(1)]
    return Parts(model, *in_order(steps, blocks), "fc")


class DenseLayer(nn.Module):
    """A dense layer, which appends its output to the channels of its input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.cat([x_NCHW, self.layer(x_NCHW)], 1)


def densenet(model: DenseNet) -> Parts:
    """Blocks: the dense layers; a transition belongs to the dense layer after it."""
    steps: list[nn.Module] = []
    blocks: list[nn.Module] = []
    for module in model.features:
        layers = [DenseLayer(layer) for layer in module.values()] if isinstance(module, _DenseBlock) else []
        blocks += layers
        steps += layers or [module]
    steps += [nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(1)]
    return Parts(model, *in_order(steps, blocks), "classifier")


class SamePooling(nn.Module):
    """Adaptive pooling that may only keep the size, which computes nothing.

    To any other size it would be an operation without a deterministic backward pass on CUDA.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if tuple(x_NCHW.shape[-2:]) != self.size:
            raise ValueError(
                f"expected activations of {self.size[0]} x {self.size[1]} before the classifier; got "
                f"{x_NCHW.shape[-2]} x {x_NCHW.shape[-1]}, and pooling to another size is not deterministic on CUDA. "
                "Fix: use the image size that the network was made for"
            )
        return x_NCHW


def vgg(model: VGG) -> Parts:
    """Blocks: the convolutions but the first, each with what follows it up to its ReLU; pooling belongs to the next.

    The tail contains the first two linear layers.
    """
    *hidden, _ = model.classifier.children()
    model.avgpool = SamePooling((7, 7))
    units: list[list[nn.Module]] = []
    steps: list[nn.Module] = []
    for module in model.features:
        if isinstance(module, nn.MaxPool2d):
            steps.append(module)
            continue
        if isinstance(module, nn.Conv2d):
            units.append([])
        units[-1].append(module)
        if isinstance(module, nn.ReLU):
            steps.append(nn.Sequential(*units[-1]))
    blocks = [step for step in steps if isinstance(step, nn.Sequential)][1:]
    steps += [model.avgpool, nn.Flatten(1), *hidden]
    return Parts(model, *in_order(steps, blocks), f"classifier.{len(hidden)}")


def mobilenet_v2(model: MobileNetV2) -> Parts:
    """Blocks: the inverted residuals; the tail begins with the last convolution."""
    first, *blocks, last = model.features
    hidden, _ = model.classifier
    steps = [first, *blocks, last, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(1), hidden]
    return Parts(model, *in_order(steps, blocks), "classifier.1")


def mnasnet(model: MNASNet) -> Parts:
    """Blocks: the inverted residuals; the tail begins with the last convolution."""
    steps: list[nn.Module] = []
    for module in model.layers:
        inner = list(module.children()) if isinstance(module, nn.Sequential) else []
        steps += inner if inner and all(isinstance(each, _InvertedResidual) for each in inner) else [module]
    blocks = [step for step in steps if isinstance(step, _InvertedResidual)]
    hidden, _ = model.classifier
    return Parts(model, *in_order([*steps, Mean(), hidden], blocks), "classifier.1")


def shufflenet_v2(model: ShuffleNetV2) -> Parts:
    """Blocks: the units of all stages; the tail begins with the last convolution."""
    blocks = [block for stage in (model.stage2, model.stage3, model.stage4) for block in stage]
    return Parts(model, *in_order([model.conv1, model.maxpool, *blocks, model.conv5, Mean()], blocks), "fc")


def _in_stages(features: nn.Sequential) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return all steps of a stem, stages of blocks and reductions of the resolution between them, and the blocks."""
    stem, *others = features
    blocks: list[nn.Module] = []
    steps: list[nn.Module] = [stem]
    for number, other in enumerate(others):
        stage = [] if number % 2 else list(other.children())
        blocks += stage
        steps += stage or [other]
    return steps, blocks


def convnext(model: ConvNeXt) -> Parts:
    """Blocks: the residual blocks; a reduction of the resolution belongs to the block after it."""
    steps, blocks = _in_stages(model.features)
    *hidden, _ = model.classifier
    return Parts(model, *in_order([*steps, model.avgpool, *hidden], blocks), f"classifier.{len(hidden)}")


def swin_transformer(model: SwinTransformer) -> Parts:
    """Blocks: the transformer blocks; a merging of patches belongs to the block after it."""
    steps, blocks = _in_stages(model.features)
    after = [model.norm, model.permute, model.avgpool, model.flatten]
    return Parts(model, *in_order([*steps, *after], blocks), "head")


class PatchTokens(nn.Module):
    """The stem of a vision transformer: patches, class token and positions; images to tokens N x L x D."""

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        self.conv_proj = model.conv_proj
        self.class_token = model.class_token
        self.pos_embedding = model.encoder.pos_embedding
        self.dropout = model.encoder.dropout
        self._patches = model._process_input

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NLD = self._patches(x_NCHW)
        class_N1D = self.class_token.expand(len(x_NLD), -1, -1)
        tokens_NLD: Tensor = self.dropout(torch.cat([class_N1D, x_NLD], dim=1) + self.pos_embedding)
        return tokens_NLD


class ClassToken(nn.Module):
    """The first token of each sequence: N x L x D to N x D."""

    def forward(self, x_NLD: Tensor) -> Tensor:
        return x_NLD[:, 0]


def vision_transformer(model: VisionTransformer) -> Parts:
    """Blocks: the encoder's layers. The stem brings the class token, and the tail selects it."""
    blocks = list(model.encoder.layers)
    *hidden, _ = model.heads
    steps = [PatchTokens(model), *blocks, model.encoder.ln, ClassToken(), *hidden]
    name = next(reversed(dict(model.heads.named_children())))
    return Parts(model, *in_order(steps, blocks), f"heads.{name}")


FAMILIES: Mapping[type[nn.Module], Callable[..., Parts]] = {
    ResNet: resnet,
    DenseNet: densenet,
    VGG: vgg,
    MobileNetV2: mobilenet_v2,
    MNASNet: mnasnet,
    ShuffleNetV2: shufflenet_v2,
    ConvNeXt: convnext,
    SwinTransformer: swin_transformer,
    VisionTransformer: vision_transformer,
}
"""How to divide the networks of each class, and of classes derived from it."""
