"""Reading and validating JSON records, with errors that name the file and the fix."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from jobs.errors import MOST_LISTED, Code, DamagedFile, machine_failure
from jobs.results.store import Store
from jobs.system.printable import brief, shown

T = TypeVar("T")
MOST_BYTES = 16 << 20
"""Maximum size of a record. The record of a launch with thousands of trials in flight takes a few hundred kB."""


def _aware(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("expected a time with an offset from UTC, as in 2026-01-01T00:00:00+00:00")
    return text


Timestamp = Annotated[str, AfterValidator(_aware)]
"""A time in ISO 8601 with an offset from UTC."""


class MisnamedRecord(DamagedFile):
    """A readable record, but of something else than its name says."""


def read_record(store: Store, key: str, adapter: TypeAdapter[T], what: str, remedy: str) -> T:
    """Read a JSON record in strict mode: values are not converted, so ``"1"`` is not a number.

    Args:
        what: what the file should be, with its article.
        remedy: what to do if it is not, as "Fix: ...".

    Raises:
        FileNotFoundError: if the record does not exist.
        DamagedFile: if it is invalid, with a message on one line.
    """
    try:
        data = store.read_within(key, MOST_BYTES)
        json_object(data)
        return adapter.validate_json(data, strict=True)
    except (ValueError, MemoryError) as error:
        file = f"{store.uri}/{key}"
        if (failure := machine_failure(error, file)) is not None:
            raise failure from error
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"{file} is not {what} ({reason(error)[:1000]}). {remedy}",
            file=file,
            key=".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "",
        ) from error


def read_listed(store: Store, folder: str, read: Callable[[Store, str], T]) -> list[T]:
    """Read all records in a folder, in order of their keys; those that are removed meanwhile are left out.

    Raises:
        DamagedFile: naming a record that cannot be read.
    """
    found = []
    for key in sorted(store.keys(folder)):
        with suppress(FileNotFoundError):
            found.append(read(store, key))
    return found


def misnamed(store: Store, key: str, what: str, remedy: str) -> MisnamedRecord:
    """Return the error for a record of something else than its name says.

    Args:
        what: what it is the record of, and what its name says.
        remedy: as in ``read_record``.
    """
    file = f"{store.uri}/{key}"
    return MisnamedRecord(Code.DAMAGED_RECORD, f"{file} is {what}. {remedy}", file=file)


def json_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object, refusing repeated keys, NaN and Infinity.

    Raises:
        ValueError: if the data are anything else.
    """
    try:
        found = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected an object; got {type(found).__name__}")  # noqa: TRY004  # about the file
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it contains {shown(name, 100)} twice")
        found[name] = value
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number in JSON")


def reason(error: Exception) -> str:
    """Return an error's message on one line; of very many mistakes, the first ones."""
    if not isinstance(error, ValidationError):
        return brief(" ".join(str(error).split()))
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    messages = [
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}".removeprefix(": ") for item in mistakes[:MOST_LISTED]
    ]
    if (unlisted := len(mistakes) - MOST_LISTED) > 0:
        messages.append(f"and {unlisted:,} more")
    return brief(" ".join("; ".join(messages).split()))
