"""Floating-point operations of the architectures, from a packaged table. No torch.

``flops.yaml`` is written by ``scripts/count_flops.py``, which counts them on the real networks.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import yaml

from jobs.specs import ALL


class ForwardFlops(NamedTuple):
    """Operations (two a multiply-add) of one image's forward pass, by part, in order."""

    stem: int
    blocks: tuple[int, ...]
    fc: int


def flops_evaluated_image(architecture: str) -> int:
    """One image forward."""
    part = _table()[architecture]
    return part.stem + sum(part.blocks) + part.fc


def flops_trained_image(architecture: str, blocks: int) -> int:
    """One image forward, and backward through the head: about twice its forward."""
    part = _table()[architecture]
    head = part.stem + sum(part.blocks) if blocks == ALL else sum(part.blocks[len(part.blocks) - blocks :])
    return flops_evaluated_image(architecture) + 2 * (head + part.fc)


@cache
def _table() -> dict[str, ForwardFlops]:
    text = resources.files(__package__).joinpath("flops.yaml").read_text(encoding="utf-8")
    return {
        name: ForwardFlops(parts["stem"], tuple(parts["blocks"]), parts["fc"])
        for name, parts in yaml.safe_load(text).items()
    }
