"""Functions of builder files. Their code is the user's own; it runs in this process, once per process and text."""

import importlib.util
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.abc import SourceLoader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from jobs.catalog.builder_files import sha256_of
from jobs.errors import Code, InvalidRequest
from jobs.networks.parts import Parts

_OF_DOWNLOADS = ("urllib", "http.client", "socket", "requests", "urllib3", "httpx", "httpcore", "huggingface_hub")
"""Modules whose exceptions mean that a download failed."""


class _InMemory(SourceLoader):
    """Loads a module from the text of its file."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text

    def get_filename(self, fullname: str) -> str:
        return self._file

    def get_data(self, path: Any) -> bytes:
        return self._text.encode()


def function_of(file: str, function: str, text: str) -> Callable[[int], nn.Module | Parts]:
    """Return a function of a builder file; it maps the number of labels to a network or its parts.

    Args:
        file: name of the file, for messages.
        text: what is in the file.

    Raises:
        InvalidRequest: if the file cannot be executed, or has no such function; so does the function, if it fails.
    """
    found = getattr(_module(file, text), function, None)
    if not callable(found):
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"expected a function {function} in {file}; there is none. Fix: correct the builder, FILE.py:FUNCTION",
            file=file,
            key="builder",
        )

    def build(labels: int) -> nn.Module | Parts:
        with _explained(file, f"{function}({labels})"):
            made: object = found(labels)
        if not isinstance(made, nn.Module | Parts):
            raise InvalidRequest(
                Code.UNUSABLE_NETWORK,
                f"expected {function}({labels}) of {file} to return a network (torch.nn.Module) or its parts "
                f"(jobs.networks.parts.Parts); got a {type(made).__name__}. Fix: let it return one of these",
                file=file,
                key="builder",
            )
        return made

    return build


@cache
def _module(file: str, text: str) -> ModuleType:
    name = f"deltasweep_builder_{sha256_of(text)[:16]}"
    module = importlib.util.module_from_spec(ModuleSpec(name, loader := _InMemory(file, text), origin=file))
    sys.modules[name] = module  # dataclasses look their module up
    random.seed(0)  # so that what the file itself draws is the same in every process; the caller restores these states
    np.random.seed(0)
    torch.default_generator.manual_seed(0)
    try:
        with _explained(file, "the file"):
            loader.exec_module(module)
    except InvalidRequest:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _explained(file: str, what: str) -> Iterator[None]:
    """Convert any error of a builder file to one message, with the place in the file.

    Raises:
        InvalidRequest: with the type and the last line of the error, and the line of the file that raised it.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError):
            raise
        line = line_in(error, file)
        place = file if line is None else f"{file}:{line}"
        raise InvalidRequest(
            Code.UNUSABLE_NETWORK,
            f"expected {what} of the builder file {file} to run; got {last_line(error)} ({place}). {_remedy(error)}",
            file=file,
            line=line,
            key="builder",
        ) from error


def line_in(error: BaseException, file: str) -> int | None:
    """Return the last line of a builder file in an error's traceback; None if the error has none."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None


def last_line(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    lines = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])


def _remedy(error: BaseException) -> str:
    chain: list[BaseException] = []
    while error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__ or error
    modules = {type(each).__module__ for each in chain}
    if any(module == of or module.startswith(f"{of}.") for module in modules for of in _OF_DOWNLOADS) or any(
        isinstance(each, ConnectionError) for each in chain
    ):
        return (
            "Fix: return a network with fresh weights, without network access; trials load the weights from the "
            "source's card"
        )
    if isinstance(chain[0], ModuleNotFoundError):
        return (
            "Fix: install that package on every machine; files beside the builder file are not available to it, so "
            "put their code into it"
        )
    return "Fix: correct the file"
