"""How networks compute: one implementation of attention on every device, and the precision of a recipe."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from jobs.specs.optimizers import Precision

FORMATS: Mapping[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""torch's names of the 16-bit formats."""


def mixed_precision(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which matrix products and convolutions compute in this precision, with torch's autocast.

    Weights are converted at each use, so that nothing depends on what ran before: a bundle
    computes the same bits as its trials alone.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, FORMATS[precision], cache_enabled=False)


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
