"""Standard output and errors as the command needs them: a stream that fails never ends its work.

- A reader that left (``| head``), a terminal that closed, a stream that was closed from the beginning: what is said is
  dropped without a word, and the command does all its work.
- A file that is full: the same, and the command says so on standard error and ends as where a storage failed.
- An encoding that has not all characters: plain ones instead of lines, dots and dashes, escapes for the rest.
"""

import codecs
import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

_PLAIN = "deltasweep-plain"
_INSTEAD = {
    "\N{MIDDLE DOT}": "-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{PLUS-MINUS SIGN}": "+/-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{CHECK MARK}": "ok",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{BULLET}": "*",
}
_GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ECONNRESET, errno.ESHUTDOWN}
"""Who listened left: a pipe, a terminal, a socket."""


@contextmanager
def dependable() -> Iterator["Streams"]:
    """Standard streams that can be written to whatever they are; put back at the end."""
    before = sys.stdout, sys.stderr
    _fill_closed()
    output, errors = _Stream(sys.stdout, 1), _Stream(sys.stderr, 2)
    sys.stdout, sys.stderr = output.text, errors.text
    try:
        yield Streams(output, errors)
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


class Streams:
    """The standard streams of a command."""

    def __init__(self, output: "_Stream", errors: "_Stream") -> None:
        self._output = output
        self._errors = errors

    @property
    def lost(self) -> OSError | None:
        """Why what was said on standard output is not all there, unless its reader left."""
        self._output.flush()
        failure = self._output.failure
        if failure is None or (failure.errno in _GONE and not _is_file(1)):
            return None
        return failure


def nobody_listens() -> bool:
    """Whether what goes to standard output is dropped."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Tolerant) and raw.failure is not None


def on_terminal() -> bool:
    """Whether standard output is a terminal. It may be closed."""
    return sys.stdout is not None and sys.stdout.isatty()


def is_unicode(stream: TextIO) -> bool:
    """Whether a stream has all characters."""
    return (stream.encoding or "").lower().startswith("utf")


class _Tolerant(io.FileIO):
    """A file that drops what it cannot take."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        if self.failure is None:
            try:
                return super().write(data)
            except BlockingIOError:
                raise
            except OSError as error:
                self.failure = error
        return len(memoryview(data).cast("B"))


class _Stream:
    """A standard stream, in the place of Python's."""

    def __init__(self, stream: Any, descriptor: int) -> None:
        self._raw: _Tolerant | None = None
        self.text: Any = stream
        if stream is not None and _descriptor(stream) != descriptor:
            # of a test, or of a program that calls us
            with suppress(AttributeError, ValueError, io.UnsupportedOperation):
                stream.reconfigure(errors=_PLAIN)
            return
        if stream is not None:
            with suppress(OSError):
                stream.flush()
        self._raw = _Tolerant(descriptor, "w", closefd=False)
        self.text = io.TextIOWrapper(
            io.BufferedWriter(self._raw),
            encoding=getattr(stream, "encoding", None) or "utf-8",
            errors=_PLAIN,
            line_buffering=getattr(stream, "line_buffering", False),
            write_through=getattr(stream, "write_through", False),
        )

    @property
    def failure(self) -> OSError | None:
        return self._raw.failure if self._raw else None

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.text.flush()


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _descriptor(stream: Any) -> int | None:
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return int(number)


def _fill_closed() -> None:
    """Let no file that is opened later become a standard stream: what C code says would go into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain_character, error.object[error.start : error.end])), error.end


def _plain_character(character: str) -> str:
    if character in _INSTEAD:
        return _INSTEAD[character]
    code = ord(character)
    if 0x2500 <= code < 0x2580:  # lines of tables
        return {"─": "-", "━": "-", "│": "|", "┃": "|", "═": "=", "║": "|"}.get(
            character, "-" if code > 0x2574 else "+"
        )
    if 0x2580 <= code < 0x25A0 or 0x2800 <= code < 0x2900:  # bars, and what turns
        return "#"
    return character.encode("ascii", "backslashreplace").decode()


codecs.register_error(_PLAIN, _plainly)
