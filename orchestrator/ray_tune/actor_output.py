"""What an actor prints during its trials, and their evaluations, kept in the results root while they run.

Ray writes an actor's output to a file on the actor's machine only. Its end (``orchestrator.process.tail``) also goes to
``logs/TRIAL/ATTEMPT.out`` (``jobs.results.layout.output_key``): every ``SECONDS`` while the trial runs and, if anything
was printed or the attempt took that long, at its end. An attempt that is over before and printed nothing leaves no
file, so that short trials cost no additional write. Only Python's output is seen: what C libraries print is in Ray's
file.
"""

import io
import os
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TextIO

from jobs.errors import DeltaSweepError
from jobs.results import Store
from jobs.results.layout import output_key
from orchestrator.process.numbers_as_text import numbers_of
from orchestrator.process.tail import Tail

SECONDS = 10.0
"""Interval between two writes to the results root."""


class ActorOutput:
    """Context manager for an actor's attempts at its trials."""

    def __init__(self, store: Store, attempts: Mapping[str, int]) -> None:
        """
        Args:
            attempts: the number of the attempt, by trial id.
        """
        self._store = store
        self._attempts = attempts
        self._lock = threading.Lock()
        self._tails = {trial: Tail() for trial in attempts}
        self._written: dict[str, str] = {}
        self._printed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_repeatedly, daemon=True)
        self._redirections = ExitStack()

    def __enter__(self) -> Self:
        for trial, attempt in self._attempts.items():
            where = f"on {socket.gethostname()}, process {os.getpid()}"
            self._add(trial, f"{_now()} attempt {attempt} {where}\n")
        self._redirections.enter_context(redirect_stdout(_Tee(sys.stdout, self)))
        self._redirections.enter_context(redirect_stderr(_Tee(sys.stderr, self)))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._redirections.close()
        self._over.set()
        self._thread.join()
        if self._printed or self._written:
            self._write()

    def evaluated(self, trial: str, row: Any) -> None:
        """Note an evaluation of a trial, as one line of its numbers."""
        self._add(trial, f"{_now()} {numbers_of(row._asdict())}\n")

    def printed(self, text: str) -> None:
        """Add text that the actor has printed, which belongs to all its trials."""
        self._printed = True
        for trial in self._attempts:
            self._add(trial, text)

    def _add(self, trial: str, text: str) -> None:
        with self._lock:
            self._tails[trial].add(text)

    def _write_repeatedly(self) -> None:
        while not self._over.wait(SECONDS):
            self._write()

    def _write(self) -> None:
        """Write what is new. Failures are left to the writes that matter: a log is no reason to fail a trial."""
        for trial, attempt in self._attempts.items():
            with self._lock:
                text = self._tails[trial].kept()
            if text == self._written.get(trial):
                continue
            try:
                self._store.replace(output_key(trial, attempt), text.encode("utf-8", "replace"), durable=False)
            except DeltaSweepError:
                continue
            self._written[trial] = text


class _Tee(io.TextIOBase):
    """A stream that passes text on to another one and to the actor's output."""

    def __init__(self, stream: TextIO, output: ActorOutput) -> None:
        self._stream = stream
        self._output = output

    def write(self, text: str) -> int:
        self._output.printed(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
