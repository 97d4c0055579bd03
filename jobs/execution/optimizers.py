"""The optimizer of a recipe, and its state in checkpoints."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jobs.networks.network import Network
from jobs.specs.optimizers import Precision, TrainingRecipe

_IN_CHECKPOINTS = {"momentum_buffer": "momentum"}
"""Names in checkpoints of those parts of an optimizer's state that do not have torch's name there."""

_IN_TORCH = {ours: theirs for theirs, ours in _IN_CHECKPOINTS.items()}

_SCALE = "lr_scale"
"""Key of a parameter group: its learning rate as a multiple of the trial's."""

Parameters = Mapping[str, nn.Parameter]
"""Trained parameters by name."""


def make_optimizer(network: Network, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the parameters that require a gradient.

    They are one group, or if the backbone has another learning rate, the backbone's group and the last layer's.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [{"params": trained, _SCALE: 1.0}]
    if recipe.backbone_lr_factor != 1:
        last = {id(p) for p in network.fc.parameters()}
        parts = [p for p in trained if id(p) not in last], [p for p in trained if id(p) in last]
        scales = recipe.backbone_lr_factor, 1.0
        groups = [{"params": part, _SCALE: scale} for part, scale in zip(parts, scales, strict=True) if part]
    optimizer: torch.optim.Optimizer
    match recipe.optimizer:
        case "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
            )
        case "adamw":
            optimizer = torch.optim.AdamW(
                groups,
                lr=recipe.learning_rate,
                betas=(recipe.beta1, recipe.beta2),
                eps=recipe.eps,
                weight_decay=recipe.weight_decay,
                fused=fuses_steps(recipe.precision, trained[0].device) or None,  # None: torch chooses among its others
            )
    set_learning_rate(optimizer, recipe.learning_rate)
    return optimizer


def fuses_steps(precision: Precision, device: torch.device) -> bool:
    """Whether one kernel computes the whole step of AdamW (torch's fused implementation).

    It does on a GPU, except in float16, where the loss has a scale. Steps of SGD are torch's default on every device,
    as in earlier releases, so that its trials keep their numbers.
    """
    return device.type == "cuda" and precision != "float16"


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the last layer to ``rate``, and that of the backbone to its multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[_SCALE]


def state_tensors(optimizer: torch.optim.Optimizer, parameters: Parameters) -> dict[str, Tensor]:
    """Return the state of every parameter as ``STATE/NAME``, such as ``momentum/NAME``; empty before the first step.

    The states of SGD are ``momentum`` (none without momentum), those of AdamW ``step``, ``exp_avg`` and ``exp_avg_sq``.
    """
    return {
        f"{_IN_CHECKPOINTS.get(theirs, theirs)}/{name}": state
        for name, parameter in parameters.items()
        for theirs, state in optimizer.state.get(parameter, {}).items()
        if isinstance(state, Tensor)
    }


def load_state(optimizer: torch.optim.Optimizer, parameters: Parameters, tensors: Mapping[str, Tensor]) -> None:
    """Load the result of ``state_tensors``; states of other parameters are ignored.

    Torch puts each state on the device where the optimizer needs it. States with a parameter's shape have its memory
    layout.
    """
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        ours, _, name = key.partition("/")
        by_parameter.setdefault(name, {})[_IN_TORCH.get(ours, ours)] = tensor
    names = {parameter: name for name, parameter in parameters.items()}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = {
        number: {theirs: _alike(parameter, tensor) for theirs, tensor in found.items()}
        for number, parameter in enumerate(ordered)
        if (found := by_parameter.get(names[parameter]))
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def allocate_state(optimizer: torch.optim.Optimizer, parameters: Parameters) -> None:
    """Allocate the state that the optimizer has after a step, to be overwritten, as must be the parameters."""
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def _alike(parameter: Tensor, stored: Tensor) -> Tensor:
    """Copy a state, with the parameter's memory layout if it has its shape."""
    if stored.shape != parameter.shape:
        return stored.clone()
    return torch.empty_like(parameter, device=stored.device).copy_(stored)
