"""Pins: the digest that the name of a source, dataset or card refers to in a results root."""

import json
import re

from pydantic import BaseModel, TypeAdapter

from jobs.errors import Code, ResultsConflict
from jobs.results.layout import pin_key
from jobs.results.records import read_record
from jobs.results.store import Store
from jobs.system.commands import command


class _Pin(BaseModel):
    sha256: str
    name: str | None = None


_PIN = TypeAdapter(_Pin)


def _remedy(store: Store) -> str:
    verify = command("verify", "--results", store.uri)
    return f"Fix: remove it; the next commit pins again, and {verify} then checks the results against the pin"


def pin(store: Store, what: str, name: str, sha256: str) -> None:
    """Pin the digest of a name in this root; the first commit determines it.

    Args:
        what: ``sources`` or ``datasets``; for a study's own cards ``cards/sources``, ``cards/datasets`` or
            ``cards/architectures``; for builder files ``cards/builders``.

    Raises:
        ResultsConflict: if another digest is pinned under the name.
        DamagedFile: if the existing pin cannot be read.
    """
    # nearly every commit finds its pins: a read is cheaper than a failed durable write, which takes two fsyncs
    if require_pin(store, what, name, sha256):
        return
    if not store.create(pin_key(what, name), json.dumps({"name": name, "sha256": sha256}).encode()):
        require_pin(store, what, name, sha256)


def require_pin(store: Store, what: str, name: str, sha256: str) -> bool:
    """Compare a digest with the one that this root has pinned for ``name``, if any; nothing is written.

    Returns:
        Whether the name is pinned.

    Raises:
        ResultsConflict: if another digest is pinned under the name.
        DamagedFile: if the existing pin cannot be read.
    """
    known = pinned(store, what, name)
    if known is None:
        return False
    if known != sha256:
        raise ResultsConflict(
            Code.OTHER_DIGEST,
            f"in {store.uri} the name {name!r} under {what} refers to sha256 {known}, here it refers to {sha256}; "
            "results of both under one name would be indistinguishable. Fix: use the original files and their card, "
            "another name, or another results root",
            file=f"{store.uri}/{pin_key(what, name)}",
        )
    return True


def pinned(store: Store, what: str, name: str) -> str | None:
    """Return the digest pinned for ``name`` in this root; None if no result uses the name yet.

    Raises:
        DamagedFile: if the pin cannot be read.
    """
    try:
        return read_pin(store, pin_key(what, name))
    except FileNotFoundError:
        return None


def read_pin(store: Store, key: str) -> str:
    """Return the pinned digest.

    Raises:
        FileNotFoundError: if nothing is pinned under the key.
        DamagedFile: if the pin cannot be read.
    """
    return read_record(store, key, _PIN, "a pin", _remedy(store)).sha256


def wrong_pin(store: Store, key: str) -> str | None:
    """Describe an inconsistency in the pin of a source or dataset, with the fix; None if there is none.

    Raises:
        FileNotFoundError, DamagedFile: as ``read_pin``.
    """
    found = read_record(store, key, _PIN, "a pin", _remedy(store))
    if found.name is not None and not key.endswith(f"/{found.name}.json"):
        return f"is the pin of {found.name!r}, not of the name in its path. {_remedy(store)}"
    if re.fullmatch("[0-9a-f]{64}", found.sha256) is None:
        return f"should contain a sha256, but has {found.sha256[:100]!r}. {_remedy(store)}"
    return None
