"""The optimiser that a recipe names."""

import torch
from torch import nn

from jobs.specs import Sgd


def sgd(network: nn.Module, recipe: Sgd) -> torch.optim.SGD:
    """The recipe's optimiser over the parameters that require a gradient."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.SGD(
        parameters, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
