"""Kinds of device made on one machine: processes told by which code torch, oneDNN and MKL compute."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from unittest import mock

SWITCHES: tuple[dict[str, str], ...] = (
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"MKL_CBWR": "COMPATIBLE"},
)
"""Each makes another kind of a processor whose libraries have the choice."""


@contextmanager
def made_kind(switch: dict[str, str]) -> Iterator[ProcessPoolExecutor]:
    """One process of another kind, for any number of calls: it loads torch once."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with mock.patch.dict(os.environ, switch):
            pool.submit(os.getpid).result()  # it starts now
        yield pool
