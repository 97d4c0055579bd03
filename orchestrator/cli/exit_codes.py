"""Exit codes of commands, and the conversion of any exception to a DeltaSweep error."""

import errno
import sys
import tempfile
import traceback
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise

from jobs.errors import Code, DeltaSweepError, InvalidRequest, StorageFailure


class ExitCode(IntEnum):
    """Exit statuses of the command."""

    ALL_DONE = 0
    SOME_FAILED = 1
    """Trials failed, a launch stopped early, a merge or an import found conflicts, or `verify` or `models check` found
    a problem.
    """
    WRONG_REQUEST = 2
    """The request or its input is invalid; the message explains what to change."""
    TRY_AGAIN = 3
    """This machine, a cluster, a network or a storage system failed."""
    BUG = 70
    """A bug in DeltaSweep itself (EX_SOFTWARE in sysexits.h)."""
    INTERRUPTED = 130
    """Interrupted by SIGINT, SIGTERM or SIGHUP."""


_TRY_AGAIN = {Code.STORAGE, Code.OUT_OF_MEMORY, Code.NO_DOWNLOAD, Code.NO_CLUSTER, Code.IN_USE}
_WRONG_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP}
"""Errors of the operating system for strings that cannot be paths."""
_OF_NAMES = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}
"""Errors of the operating system for missing or unexpected files. Commands validate the paths that users pass, so such
an error is a bug.
"""


def exit_code_of(code: Code) -> ExitCode:
    """Return the exit code for an error code."""
    if code is Code.INTERNAL:
        return ExitCode.BUG
    return ExitCode.TRY_AGAIN if code in _TRY_AGAIN else ExitCode.WRONG_REQUEST


def of_any(error: Exception) -> DeltaSweepError:
    """Convert any exception to a ``DeltaSweepError``.

    Exhausted memory and errors of the operating system are failures of this machine, strings that cannot be paths are
    invalid requests, and any other exception, including one for a missing or unexpected file, is a bug. The traceback
    of a bug is written to a file.
    """
    if isinstance(error, DeltaSweepError):
        return error
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        said = "".join(f" ({line})" for line in str(error).strip().splitlines()[:1])
        return StorageFailure(
            Code.OUT_OF_MEMORY,
            f"this machine or its GPU is out of memory{said}. Fix: free some, or use a larger one, and try again",
        )
    if isinstance(error, OSError) and error.errno in _WRONG_NAME and error.filename is not None:
        path = str(error.filename)
        shown = path if len(path) < 200 else f"{path[:200]}..."
        return InvalidRequest(Code.WRONG_PLACE, f"expected a path; got {shown} ({error.strerror})", file=shown)
    if isinstance(error, OSError) and error.errno is not None and error.errno not in _OF_NAMES:
        what = f"{error.filename}: " if error.filename is not None else ""
        return StorageFailure(
            Code.STORAGE,
            f"{what}{error.strerror}. Fix: check this machine's disk, permissions and limits, then try again",
            file=error.filename or "",
        )
    return DeltaSweepError(
        Code.INTERNAL,
        f"this is a bug in DeltaSweep; {_traceback_place(error)}. Please report it ({type(error).__name__}: {error})",
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch, if this command has loaded it, says that memory of this machine or of a GPU was exhausted."""
    if "torch" not in sys.modules:
        return False
    from jobs.execution.gpu_memory import is_out_of_memory

    return is_out_of_memory(error)


def _traceback_place(error: Exception) -> str:
    """Write an error's traceback to a file and return a clause that locates it."""
    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="deltasweep-bug-", suffix=".txt", encoding="utf-8", errors="replace", delete=False
        ) as file:
            file.write(text)
    except OSError:
        return f"its traceback could not be written to a file:\n{text}"
    return f"its traceback is in {file.name}"


_CODES = {
    "NoSuchOption": Code.UNKNOWN_KEY,
    "MissingParameter": Code.MISSING_KEY,
}
"""Error codes, by class name of click's errors, since some versions of typer bundle their own copy of click."""


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line, valid or not, requests JSON."""
    return "--json" in arguments or "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


def is_help(error: BaseException) -> bool:
    """Whether click ends this way after it has printed the help of a group that was called without a verb."""
    return type(error).__name__ == "NoArgsIsHelpError"


def of_usage(error: Exception) -> DeltaSweepError | None:
    """Convert click's error about a command line to a ``DeltaSweepError``; None for any other error."""
    if not hasattr(error, "format_message"):
        return None
    code, key = _CODES.get(type(error).__name__, Code.WRONG_VALUE), _key(error)
    message = " ".join(error.format_message().split())
    if code is Code.MISSING_KEY and key == "--results":
        message = "expected --results ROOT, or the root in $DELTASWEEP_RESULTS; got neither"
    if code is Code.UNKNOWN_KEY and getattr(getattr(error, "ctx", None), "parent", 0) is None:
        message += ". Options follow the verb: deltasweep VERB ... --option"
    command = getattr(getattr(error, "ctx", None), "command_path", "deltasweep")
    ended = message if message.endswith("?") else f"{message.rstrip('.')}."
    return InvalidRequest(code, f"{ended} Usage: {command} --help", key=key)


def _key(error: object) -> str:
    """Return the option that click's error is about, or the argument's name in capitals."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        return str(getattr(error, "option_name", ""))
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return str(parameter.opts[0])
