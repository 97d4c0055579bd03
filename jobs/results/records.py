"""Records, JSON and YAML, read back: of the right types, or named with what to do about them."""

import json
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from jobs.errors import Code, DamagedFile, machine_failure
from jobs.results.store import Store

T = TypeVar("T")
MOST_BYTES = 16 << 20
"""Of a record. That of a launch with thousands of trials in flight has a few hundred kB."""


def _aware(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time has its offset from UTC, as in 2026-01-01T00:00:00+00:00")
    return text


Timestamp = Annotated[str, AfterValidator(_aware)]
"""ISO 8601, with the offset from UTC."""


def read_record(store: Store, key: str, adapter: TypeAdapter[T], what: str, remedy: str) -> T:
    """A JSON record; nothing is converted, ``"1"`` is no number.

    Args:
        what: what the file should be, with its article.
        remedy: what to do when it is not.

    Raises:
        FileNotFoundError: when there is none.
        DamagedFile: when it is something else, on one line.
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
            f"{file} is not {what} ({reason(error)[:1000]}); {remedy}",
            file=file,
            key=".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "",
        ) from error


def json_object(data: bytes) -> dict[str, Any]:
    """An object of JSON that says each key once, and numbers alone where it has numbers.

    Raises:
        ValueError: when it is anything else.
    """
    try:
        found = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"it is no object, but {type(found).__name__}")  # noqa: TRY004  # of what the file holds
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it says {next(name for name in names if names.count(name) > 1)!r:.100} twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def reason(error: Exception) -> str:
    """What an error says, on one line."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        places = [".".join(map(str, item["loc"])) for item in found]
        said = "; ".join(
            f"{place}: {item['msg']}" if place else item["msg"] for place, item in zip(places, found, strict=True)
        )
        return " ".join(said.split())
    return " ".join(str(error).split())
