"""Tensors as safetensors stores them: each with its own memory."""

from collections.abc import Mapping

from torch import Tensor


def storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU, of which no two share memory.

    A network may have one weight under several names, or a buffer that is a part of another one; safetensors refuses
    such tensors. Those that share nothing are not copied.
    """
    found: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        if own.untyped_storage().data_ptr() in stored:
            own = own.clone()
        stored.add(own.untyped_storage().data_ptr())
        found[name] = own
    return found
