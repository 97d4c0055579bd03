"""The parts of networks of timm (the extra ``timm``), family by family.

timm's networks share ``forward_head``, which with ``pre_logits`` ends before the last layer; the name of that layer is
in their configuration. The classes are compared by name, so that nothing of timm is imported before a network of it
exists.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from jobs.errors import Code, InvalidRequest
from jobs.networks.parts import Parts, in_order


class BeforeLogits(nn.Module):
    """The layers of a network's ``forward_head`` but the last: to features N x D."""

    def __init__(self, model: Any, *names: str) -> None:
        """
        Args:
            names: the modules that ``forward_head`` uses, apart from the last layer.
        """
        super().__init__()
        for name in names:
            self.add_module(name.replace(".", "_"), model.get_submodule(name))
        self._head: Callable[..., Tensor] = model.forward_head

    def forward(self, x: Tensor) -> Tensor:
        return self._head(x, pre_logits=True)


class Tokens(nn.Module):
    """The stem of a vision transformer: patches, class token and positions; images to tokens N x L x D."""

    patch_embed: nn.Module
    patch_drop: nn.Module
    norm_pre: nn.Module

    def __init__(self, model: Any) -> None:
        super().__init__()
        for name in ("patch_embed", "patch_drop", "norm_pre", "pos_drop"):
            self.add_module(name, getattr(model, name))
        for name in ("cls_token", "reg_token", "pos_embed"):
            self.register_parameter(name, getattr(model, name, None))
        self._positions: Callable[[Tensor], Tensor] = model._pos_embed

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NLD = self._positions(self.patch_embed(x_NCHW))
        tokens_NLD: Tensor = self.norm_pre(self.patch_drop(x_NLD))
        return tokens_NLD


def vision_transformer(model: Any) -> Parts:
    """Blocks: the transformer blocks, also of DeiT."""
    blocks = list(model.blocks)
    tail = BeforeLogits(model, "fc_norm", "head_drop", *(["attn_pool"] if model.attn_pool is not None else []))
    return Parts(model, *in_order([Tokens(model), *blocks, model.norm, tail], blocks), _last(model))


def convnext(model: Any) -> Parts:
    """Blocks: the residual blocks; a reduction of the resolution belongs to the block after it."""
    return _in_stages(model, before=[model.stem], after=[model.norm_pre])


def resnetv2(model: Any) -> Parts:
    """Blocks: the residual blocks. A last layer that is a 1 x 1 convolution becomes the linear layer that it is."""
    head = model.head
    if isinstance(head.fc, nn.Conv2d):
        linear = nn.Linear(head.fc.in_channels, head.fc.out_channels)
        linear.load_state_dict(
            {name: tensor.flatten(1) if tensor.ndim == 4 else tensor for name, tensor in head.fc.state_dict().items()}
        )
        head.global_pool, head.flatten = nn.Sequential(head.global_pool, nn.Flatten(1)), nn.Identity()
        head.fc, head.use_conv = linear, False
    return _in_stages(model, before=[model.stem], after=[model.norm])


def _in_stages(model: Any, before: list[nn.Module], after: list[nn.Module]) -> Parts:
    blocks = [block for stage in model.stages for block in stage.blocks]
    steps = list(before)
    for stage in model.stages:
        down = getattr(stage, "downsample", None)
        steps += [down] if isinstance(down, nn.Module) else []
        steps += list(stage.blocks)
    head = [f"head.{name}" for name, _ in model.head.named_children() if f"head.{name}" != _last(model)]
    return Parts(model, *in_order([*steps, *after, BeforeLogits(model, *head)], blocks), _last(model))


def efficientnet(model: Any) -> Parts:
    """Blocks: the inverted residuals; the tail begins with the last convolution."""
    blocks = [block for stage in model.blocks for block in stage]
    head = BeforeLogits(model, "global_pool")
    steps = [model.conv_stem, model.bn1, *blocks, model.conv_head, model.bn2, head]
    return Parts(model, *in_order(steps, blocks), _last(model))


def resnet(model: Any) -> Parts:
    """Blocks: the residual blocks."""
    blocks = [block for layer in (model.layer1, model.layer2, model.layer3, model.layer4) for block in layer]
    head = BeforeLogits(model, "global_pool")
    steps = [model.conv1, model.bn1, model.act1, model.maxpool, *blocks, head]
    return Parts(model, *in_order(steps, blocks), _last(model))


FAMILIES: Mapping[str, Callable[[Any], Parts]] = {
    "timm.models.vision_transformer.VisionTransformer": vision_transformer,
    "timm.models.convnext.ConvNeXt": convnext,
    "timm.models.efficientnet.EfficientNet": efficientnet,
    "timm.models.resnetv2.ResNetV2": resnetv2,
    "timm.models.resnet.ResNet": resnet,
}
"""How to divide the networks of each class, by the class's full name."""


def _last(model: Any) -> str:
    name = model.default_cfg["classifier"]
    if not isinstance(name, str):
        raise InvalidRequest(
            Code.UNUSABLE_NETWORK,
            f"expected a network with one last layer; a {type(model).__name__} of timm has several: {', '.join(name)}. "
            "Fix: choose another network, such as DeiT without distillation",
            key="builder",
        )
    return name
