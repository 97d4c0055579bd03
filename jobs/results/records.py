"""Records, JSON and YAML, read back: of the right types, or named with what to do about them."""

from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from jobs.errors import Code, DamagedFile
from jobs.results.store import Store

T = TypeVar("T")


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
    data = store.read(key)
    try:
        return adapter.validate_json(data, strict=True)
    except ValidationError as error:
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"{store.uri}/{key} is not {what} ({reason(error)}); {remedy}",
            file=f"{store.uri}/{key}",
            key=".".join(map(str, error.errors()[0]["loc"])),
        ) from error


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
