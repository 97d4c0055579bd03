"""Errors of the command line for machines: one JSON object, where the command was asked for JSON."""

from collections.abc import Sequence
from itertools import pairwise

from jobs.errors import Code, DeltaSweepError, InvalidRequest

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
