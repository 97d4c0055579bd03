"""What a builder made, before it is divided into parts: an ordinary network of float32 weights on the CPU.

A builder is a user's own code, which may also change settings of the whole process; ``settings_kept`` undoes that.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from jobs.errors import Code, InvalidRequest
from jobs.networks.parts import Parts, checked

_WRAPPERS = {
    "torch._dynamo.eval_frame.OptimizedModule": "torch.compile",
    "torch.jit._script.ScriptModule": "TorchScript",
    "torch.nn.parallel.data_parallel.DataParallel": "torch.nn.DataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel": "torch.nn.parallel.DistributedDataParallel",
}
"""Modules around a network or a part of it, which rename its tensors, or run it on devices of their own choice. Classes
are compared by name, because the first takes a second to import.
"""


def ordinary(made: nn.Module | Parts, builder: str) -> nn.Module | Parts:
    """Return a network or its parts, and require that trials can freeze, store and replace what is in it.

    Raises:
        InvalidRequest: naming the module or weight with which they could not.
    """
    found = checked(made) if isinstance(made, Parts) else made
    model = found.model if isinstance(found, Parts) else found
    for path, module in model.named_modules():
        for ancestor in type(module).__mro__:
            if by := _WRAPPERS.get(f"{ancestor.__module__}.{ancestor.__qualname__}"):
                raise unusable(
                    f"expected {builder} to build plain modules; {path or 'the network'} is wrapped by {by}",
                    "let the builder return what is inside",
                )
    for name, parameter in model.named_parameters():
        if is_lazy(parameter) or parameter.is_meta:
            raise unusable(
                f"expected {builder} to build weights with values; {name} has none yet",
                "use layers that know their number of inputs, on the CPU",
            )
        if parameter.dtype is not torch.float32 or parameter.device.type != "cpu":
            raise unusable(
                f"expected {builder} to build weights in float32 on the CPU; {name} is {parameter.dtype} on "
                f"{parameter.device}",
                "let the builder return network.float().cpu()",
            )
    return found


def require_labels(parts: Parts, labels: int, builder: str) -> None:
    """Require that the last layer has as many outputs as were asked for."""
    found = parts.model.get_submodule(parts.fc).out_features
    if found != labels:
        raise unusable(
            f"expected {builder} to build a network with {labels} labels, as it was called with; "
            f"{parts.fc} has {found}",
            "use the function's argument for the last layer",
        )


@contextmanager
def settings_kept() -> Iterator[None]:
    """Run a block, and undo what it does to random states other than torch's, and to settings of the process.

    What it prints goes to standard error, because standard output may be a card.
    """
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()
    kind, gradients, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    deterministic, device = torch.are_deterministic_algorithms_enabled(), torch.get_default_device()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)
        torch.set_default_dtype(kind)
        torch.set_grad_enabled(gradients)
        torch.use_deterministic_algorithms(deterministic)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)


def unusable(message: str, remedy: str = "let the builder return a network that trials can use") -> InvalidRequest:
    """Return the error for a network that trials could not use."""
    return InvalidRequest(Code.UNUSABLE_NETWORK, f"{message}. Fix: {remedy}", key="builder")
