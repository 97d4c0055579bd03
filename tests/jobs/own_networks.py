"""A builder file as a user would write it, and variants of it."""

MY_NET = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, labels):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.blocks = nn.Sequential(block(), block(), block())
        self.tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Dropout(0.1))
        self.fc = nn.Linear(4, labels)

    def forward(self, x):
        return self.fc(self.tail(self.blocks(self.stem(x))))


def block():
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())


def build(labels):
    return Net(labels)
"""
"""``my_net.py``: a network of three blocks for images of any size."""

NAME = "my_net.py"
BUILDER = f"{NAME}:build"


def changed(old: str, new: str) -> str:
    """Return the file with one text replaced by another."""
    assert old in MY_NET, old
    return MY_NET.replace(old, new)


_STEM = "nn.BatchNorm2d(4), nn.ReLU())\n        self.blocks"


def after_the_stem(layer: str) -> str:
    """Return the file with another layer at the end of the stem, the class ``Added`` with these methods."""
    text = changed(_STEM, _STEM.replace("nn.ReLU())", "nn.ReLU(), Added())"))
    lines = "".join(f"    {line}\n" for line in layer.splitlines())
    return f"import torch\n{text}\n\nclass Added(nn.Module):\n{lines}"


def with_convolutions(how: str) -> str:
    """Return the file with another convolution in every block."""
    return changed("nn.Conv2d(4, 4, 3, padding=1)", how)


MY_VIT = """\
import torch
from torch import nn


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 8, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.pos = nn.Parameter(torch.linspace(-1, 1, 17 * 8).sin().view(1, 17, 8), requires_grad=False)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)
        return self.drop(torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.drop(self.attention(y, y, y, need_weights=False)[0])
        return x + self.drop(self.mlp(self.norm2(x)))


class Tail(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(x)[:, 0]


class Net(nn.Module):
    def __init__(self, labels):
        super().__init__()
        self.stem = Stem()
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.tail = Tail()
        self.fc = nn.Linear(8, labels)

    def forward(self, x):
        return self.fc(self.tail(self.blocks(self.stem(x))))


def build(labels):
    return Net(labels)
"""
"""A vision transformer of three blocks for images of 32 x 32.

It has a class token, positions that are not trained, and dropout layers that draw twice.
"""
