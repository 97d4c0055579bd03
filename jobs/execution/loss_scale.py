"""The scale of the loss in float16, where small gradients would be rounded to 0."""

from collections.abc import Mapping

import torch
from torch import Tensor

from jobs.specs.optimizers import Precision

_SCALE, _GROWTH = "loss-scale/scale", "loss-scale/steps"


class LossScale:
    """torch's ``GradScaler`` for float16; in every other precision the scale is 1, and nothing is computed.

    A step whose gradients overflow is not taken, and halves the scale; 2,000 steps without one double it.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss times the scale."""
        scaled: Tensor = self._scaler.scale(loss)
        return scaled

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale and take the optimizer's step, unless one of them is not finite."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def tensors(self) -> dict[str, Tensor]:
        """Return a copy of its state for checkpoints; empty except in float16."""
        state = self._scaler.state_dict()
        if not state:
            return {}
        numbers = {_SCALE: state["scale"], _GROWTH: state["_growth_tracker"]}
        return {name: torch.tensor(float(number)) for name, number in numbers.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the result of ``tensors``."""
        if state := self._scaler.state_dict():
            loaded = {"scale": float(tensors[_SCALE]), "_growth_tracker": int(tensors[_GROWTH])}
            self._scaler.load_state_dict({**state, **loaded})
