"""Standard streams of all kinds, for tests of commands in this process: a pipe without a reader, a full disk..."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

Kind = Literal["file", "left", "closed", "full"]


@contextmanager
def standard_streams(folder: Path, out: Kind = "file", err: Kind = "file", encoding: str = "utf-8") -> Iterator[None]:
    """Give this process standard streams as a shell would have started it with.

    Args:
        folder: Contains the files ``out`` and ``err`` that ``file`` writes to.
        out, err: ``left`` is a pipe whose reader has exited (``| head``), ``closed`` is ``>&-``, ``full`` is a full
            disk.
        encoding: Python's name of the encoding, for both streams.
    """
    texts, saved = (sys.stdout, sys.stderr), [os.dup(1), os.dup(2)]
    sys.stdout.flush()
    try:
        sys.stdout = _replaced(1, out, folder / "out", encoding)
        sys.stderr = _replaced(2, err, folder / "err", encoding)
        yield
    finally:
        sys.stdout, sys.stderr = texts
        for descriptor, copy in enumerate(saved, 1):
            os.dup2(copy, descriptor)
            os.close(copy)


def _replaced(descriptor: int, kind: Kind, file: Path, encoding: str) -> Any:
    if kind == "closed":
        os.close(descriptor)
        return None
    if kind == "left":
        reader, target = os.pipe()
        os.close(reader)
    else:
        target = os.open("/dev/full" if kind == "full" else file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(target, descriptor)
    os.close(target)
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, line_buffering=descriptor == 2)
