"""Standard output and standard error that never end a command's work when they fail.

- If the reader exits (``| head``), the terminal closes or the stream was closed from the start, output is dropped
  silently and the command completes its work.
- If a file is full, output is dropped, too; the command then reports it on standard error and exits as after any other
  storage failure.
- If the encoding lacks characters, lines, dots and dashes are replaced by ASCII characters, and others by escapes.
"""

import codecs
import errno
import io
import os
import select
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
"""The reader is gone: a pipe, a terminal or a socket."""


@contextmanager
def dependable() -> Iterator["Streams"]:
    """Replace the standard streams with ones that never fail, and restore them on exit."""
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
        """Why standard output is incomplete; None if it is complete or its reader is gone."""
        self._output.flush()
        failure = self._output.failure
        if failure is None or (failure.errno in _GONE and not _is_file(1)):
            return None
        return failure


def nobody_listens() -> bool:
    """Whether standard output is being dropped, or would be: the reader of a pipe has gone."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Tolerant) and (raw.failure is not None or _reader_is_gone(raw.fileno()))


def _reader_is_gone(descriptor: int) -> bool:
    watched = select.poll()
    watched.register(descriptor, 0)  # errors are told in any case
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))


def on_terminal() -> bool:
    """Whether standard output is a terminal. Also works if it is closed."""
    return sys.stdout is not None and sys.stdout.isatty()


def is_unicode(stream: TextIO) -> bool:
    """Whether a stream's encoding is Unicode."""
    return (stream.encoding or "").lower().startswith("utf")


class _Tolerant(io.FileIO):
    """A file that drops data after its first write error."""

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
    """Replacement for one of Python's standard streams."""

    def __init__(self, stream: Any, descriptor: int) -> None:
        self._raw: _Tolerant | None = None
        self.text: Any = stream
        if stream is not None and _descriptor(stream) != descriptor:
            # replaced by a test or by a calling program
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
    """Open /dev/null for closed standard streams, or C code would write into the next file that is opened."""
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
    if 0x2580 <= code < 0x25A0 or 0x2800 <= code < 0x2900:  # bars and spinners
        return "#"
    return character.encode("ascii", "backslashreplace").decode()


codecs.register_error(_PLAIN, _plainly)
