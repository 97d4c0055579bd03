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
