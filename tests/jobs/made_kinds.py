"""Several device kinds on one machine: processes that are told which code paths torch, oneDNN and MKL use."""

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
"""Each gives another device kind on a processor whose libraries offer the choice."""


@contextmanager
def made_kind(switch: dict[str, str]) -> Iterator[ProcessPoolExecutor]:
    """Start one process of another device kind for any number of calls, so that it loads torch only once."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with mock.patch.dict(os.environ, switch):
            pool.submit(os.getpid).result()  # starts the process now
        yield pool
