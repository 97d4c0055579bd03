"""Pins: the digest that the name of a source or dataset stands for in a results root."""

import json
import re

from pydantic import BaseModel, TypeAdapter

from jobs.errors import Code, ResultsConflict
from jobs.results.layout import pin_key
from jobs.results.records import read_record
from jobs.results.store import Store


class _Pin(BaseModel):
    sha256: str
    name: str | None = None


_PIN = TypeAdapter(_Pin)
_REMEDY = "remove it: the next commit pins again, and `deltasweep verify` then says whether the results agree"


def pin(store: Store, what: str, name: str, sha256: str) -> None:
    """Hold that ``name`` stands for one digest in this root; the first commit decides which.

    Args:
        what: ``sources`` or ``datasets``.

    Raises:
        ResultsConflict: when the root knows another digest under the name.
        DamagedFile: when what it knows cannot be read.
    """
    # nearly every commit finds its pins there: a read, where a durable write that is refused takes two fsyncs
    if require_pin(store, what, name, sha256):
        return
    if not store.create(pin_key(what, name), json.dumps({"name": name, "sha256": sha256}).encode()):
        require_pin(store, what, name, sha256)


def require_pin(store: Store, what: str, name: str, sha256: str) -> bool:
    """Hold ``name`` against what this root has pinned, if it has; nothing is written.

    Returns:
        Whether it has.

    Raises:
        ResultsConflict: when the root knows another digest under the name.
        DamagedFile: when what it knows cannot be read.
    """
    known = pinned(store, what, name)
    if known is None:
        return False
    if known != sha256:
        raise ResultsConflict(
            Code.OTHER_DIGEST,
            f"in {store.uri} the name {name!r} among the {what} stands for sha256 {known}, here it stands for "
            f"{sha256}; results of both under one name could not be told apart. Use the first files, and what "
            "their card says of them, again, or another name, or another results root",
            file=f"{store.uri}/{pin_key(what, name)}",
        )
    return True


def pinned(store: Store, what: str, name: str) -> str | None:
    """The digest that ``name`` stands for in this root; None when no result has been made with it.

    Raises:
        DamagedFile: when the pin cannot be read.
    """
    try:
        return read_pin(store, pin_key(what, name))
    except FileNotFoundError:
        return None


def read_pin(store: Store, key: str) -> str:
    """The pinned digest.

    Raises:
        FileNotFoundError: when nothing is pinned there.
        DamagedFile: when the pin cannot be read.
    """
    return read_record(store, key, _PIN, "a pin", _REMEDY).sha256


def wrong_pin(store: Store, key: str) -> str | None:
    """What contradicts itself in a pin of a source or dataset, with the remedy; None: nothing does.

    Raises:
        FileNotFoundError, DamagedFile: as ``read_pin``.
    """
    found = read_record(store, key, _PIN, "a pin", _REMEDY)
    if found.name is not None and not key.endswith(f"/{found.name}.json"):
        return f"is the pin of {found.name!r}, not of the name that it has; {_REMEDY}"
    if re.fullmatch("[0-9a-f]{64}", found.sha256) is None:
        return f"has no sha256, but {found.sha256[:100]!r}; {_REMEDY}"
    return None
