"""Count the operations of every architecture and write ``jobs/registry/flops.yaml``.

Usage: python scripts/count_flops.py
"""

from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from jobs import registry
from jobs.networks import BUILDERS, Network

TABLE = Path(__file__).parent.parent / "jobs" / "registry" / "flops.yaml"


def count(architecture: str) -> dict[str, int | list[int]]:
    """Operations of one image forward (two a multiply-add) of stem, each block, and FC with 1,000 labels."""
    size = registry.architecture(architecture).image_size
    network = Network(BUILDERS[architecture](1000), (0.0,) * 3, (1.0,) * 3).eval()
    with torch.no_grad():
        x_NCHW = torch.zeros(1, 3, size, size)
        stem = _flops(lambda: network.trunk(x_NCHW, 0))
        activations = network.trunk(x_NCHW, 0)
        blocks = []
        for block in network.blocks:
            blocks.append(_flops_of(block, activations))
            activations = block(activations)
        pooled = torch.flatten(network.resnet.avgpool(activations), 1)
        return {"stem": stem, "blocks": blocks, "fc": _flops_of(network.resnet.fc, pooled)}


def _flops_of(module: nn.Module, x: torch.Tensor) -> int:
    return _flops(lambda: module(x))


def _flops(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


if __name__ == "__main__":
    table = {name: count(name) for name in registry.architectures()}
    TABLE.write_text("# Written by scripts/count_flops.py\n" + yaml.safe_dump(table, sort_keys=False))
