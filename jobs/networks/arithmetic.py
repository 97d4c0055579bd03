"""One implementation of attention, whatever the device and the mode of a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def attention_by_matrix_products() -> Iterator[None]:
    """Compute attention by matrix products and a softmax, in training and in evaluation.

    torch would choose among several implementations by device, shape and mode. In float32 on CUDA the faster ones have
    no deterministic backward pass.
    """
    cuda: Any = torch.backends.cuda  # torch gives it no types
    chosen = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()
    fast = torch.backends.mha.get_fastpath_enabled()
    _choose(flash=False, efficient=False, cudnn=False)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        _choose(*chosen)
        torch.backends.mha.set_fastpath_enabled(fast)


def _choose(flash: bool, efficient: bool, cudnn: bool) -> None:
    torch.backends.cuda.enable_flash_sdp(flash)
    torch.backends.cuda.enable_mem_efficient_sdp(efficient)
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
