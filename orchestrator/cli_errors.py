"""How commands end: exit codes, and errors for machines, one JSON object where the command was asked for JSON."""

import errno
import tempfile
import traceback
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Any

from typer.core import TyperGroup

from jobs.errors import Code, DeltaSweepError, InvalidRequest, StorageFailure


class ExitCode(IntEnum):
    """What the command's exit status means."""

    ALL_DONE = 0
    SOME_FAILED = 1
    """Trials failed or are left, or `verify` found something wrong."""
    WRONG_REQUEST = 2
    """What was asked for cannot be, or what it reads is not what it should be: the message says what to change."""
    TRY_AGAIN = 3
    """This machine, a cluster, a network or a storage failed."""
    BUG = 70
    """Of DeltaSweep itself. sysexits.h has this number for it."""
    INTERRUPTED = 130
    """By SIGINT, SIGTERM or SIGHUP."""


_TRY_AGAIN = {Code.STORAGE, Code.OUT_OF_MEMORY, Code.NO_DOWNLOAD, Code.NO_CLUSTER, Code.IN_USE}
_WRONG_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP}
"""What a system says of a path that cannot be one."""
_OF_NAMES = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}
"""What a system says of names that someone got wrong; a command that let a person's through has a bug."""


def exit_code_of(code: Code) -> ExitCode:
    """How a command ends by an error."""
    if code is Code.INTERNAL:
        return ExitCode.BUG
    return ExitCode.TRY_AGAIN if code in _TRY_AGAIN else ExitCode.WRONG_REQUEST


class Interrupted(Exception):
    """A signal, where click would make an exit code of its own of KeyboardInterrupt."""


class Commands(TyperGroup):
    """All commands: a signal ends each in the same way."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


def of_any(error: Exception) -> DeltaSweepError:
    """What ended a command, as an error of ours.

    One that nobody expected is a failing of this machine, where the system says so, or else a bug, whose traceback is
    kept in a file.
    """
    if isinstance(error, DeltaSweepError):
        return error
    if isinstance(error, MemoryError):
        return StorageFailure(Code.OUT_OF_MEMORY, "this machine has too little memory free. Fix: free some, and repeat")
    if isinstance(error, OSError) and error.errno in _WRONG_NAME and error.filename is not None:
        path = str(error.filename)
        shown = path if len(path) < 200 else f"{path[:200]}..."
        return InvalidRequest(Code.WRONG_PLACE, f"expected a path; got {shown} ({error.strerror})", file=shown)
    if isinstance(error, OSError) and error.errno is not None and error.errno not in _OF_NAMES:
        what = f"{error.filename}: " if error.filename is not None else ""
        return StorageFailure(
            Code.STORAGE,
            f"{what}{error.strerror}. Fix: look at this machine's disk, permissions and limits, and repeat",
            file=error.filename or "",
        )
    return DeltaSweepError(
        Code.INTERNAL,
        f"this is a bug of DeltaSweep, {_kept(error)}. Please report it ({type(error).__name__}: {error})",
    )


def _kept(error: Exception) -> str:
    """Where an error's traceback is."""
    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="deltasweep-bug-", suffix=".txt", encoding="utf-8", errors="replace", delete=False
        ) as file:
            file.write(text)
    except OSError:
        return f"whose traceback could not be kept in a file:\n{text}"
    return f"with its traceback in {file.name}"


_CODES = {
    "NoSuchOption": Code.UNKNOWN_KEY,
    "MissingParameter": Code.MISSING_KEY,
}
"""By click's names: each version of typer has a click of its own, or the one that is installed."""


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line, right or wrong, asks for JSON."""
    return "--json" in arguments or "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


def of_usage(ended: SystemExit) -> DeltaSweepError | None:
    """What click found wrong with the command line, as an error of ours; None: the command ended by something else.

    Click has told it on standard error, and ended the process from inside its handling of the error.
    """
    error = ended.__context__
    if error is None or not hasattr(error, "format_message"):
        return None
    code = _CODES.get(type(error).__name__, Code.WRONG_VALUE)
    return InvalidRequest(code, error.format_message(), key=_key(error))


def _key(error: object) -> str:
    """The option that click's error is about, or the argument in capitals."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        return str(getattr(error, "option_name", ""))
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return str(parameter.opts[0])
