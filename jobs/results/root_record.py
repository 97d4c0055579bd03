"""What a results root says of itself: the version of its layout, and who made it.

``root.json`` is put there with the first thing in it. A root without one is 0.1.0's, of layout 1.
"""

import json
from typing import NamedTuple

from pydantic import TypeAdapter

from jobs.errors import Code, InvalidRequest
from jobs.provenance import code_version
from jobs.results.launches import timestamp
from jobs.results.local_store import TEMPORARY
from jobs.results.records import Timestamp, read_record
from jobs.results.store import Store

LAYOUT = 1
"""Of keys and records (design, section 4). It rises when an older DeltaSweep would misread what a newer one writes, and
not for columns, which have versions of their own.
"""
KEY = "root.json"


class RootRecord(NamedTuple):
    """Who made a root."""

    layout: int
    made_by: str
    """Version of DeltaSweep."""
    made_at: Timestamp
    """UTC, ISO 8601."""


_RECORD = TypeAdapter(RootRecord)
_REMEDY = f"remove it if results are read without it: a root without {KEY} is taken for that of DeltaSweep 0.1.0"


def read_root(store: Store) -> RootRecord | None:
    """What a root says of itself; None for one that says nothing: DeltaSweep 0.1.0 made it, or nobody yet.

    Raises:
        DamagedFile: when what it says cannot be read.
    """
    try:
        return read_record(store, KEY, _RECORD, "the record of a results root", _REMEDY)
    except FileNotFoundError:
        return None


def require_layout(store: Store) -> None:
    """Refuse a root whose layout a newer DeltaSweep has changed: what this one reads or writes there could be wrong.

    Raises:
        InvalidRequest: naming both versions.
        DamagedFile: when what the root says of itself cannot be read.
    """
    found = read_root(store)
    if found is not None and found.layout > LAYOUT:
        raise InvalidRequest(
            Code.NEWER_VERSION,
            f"{store.uri} was made by DeltaSweep {found.made_by}, in version {found.layout} of the layout; this is "
            f"DeltaSweep {code_version()}, which knows versions up to {LAYOUT}. Fix: install the first of these, or "
            "later",
            file=store.uri,
        )


def _is_content(key: str) -> bool:
    """Whether a key is no temporary or hidden file."""
    first, _, last = key.removeprefix("./").rpartition("/")
    return not first.startswith(TEMPORARY) and not last.startswith(".")


def claim(store: Store) -> None:
    """Say in an empty root who made it; one that has anything in it is left as it is."""
    if not any(map(_is_content, store.keys(""))):
        record = RootRecord(LAYOUT, code_version(), timestamp())
        store.create(KEY, json.dumps(record._asdict()).encode())
