"""What a results root says of itself: the version of its layout, and who made it.

``root.json`` is put there with the first thing in it. A root without one is 0.1.0's, of layout 1.
"""

import json
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter

from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.provenance import code_version
from jobs.results.launches import timestamp
from jobs.results.records import MOST_BYTES, Timestamp, json_object, read_record
from jobs.results.store import Store

LAYOUT = 1
"""Of keys and records (design, section 4). It rises when an older DeltaSweep would misread what a newer one writes, and
not for columns, which have versions of their own.
"""
KEY = "root.json"
_FIRST = 1
"""That of 0.1.0."""
_OWN = (
    "trials",
    "studies",
    "launches",
    "failures",
    "checkpoints",
    "weights",
    "sources",
    "datasets",
    "cards",
    "conflicts",
)
"""Folders of a root in which something stands as soon as it is used."""


class RootRecord(NamedTuple):
    """Who made a root."""

    layout: Annotated[int, Field(ge=1)]
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
    layout, made_by = _told(store)
    if layout > LAYOUT:
        raise InvalidRequest(
            Code.NEWER_VERSION,
            f"{store.uri} is of version {layout} of the layout, by DeltaSweep {made_by}; this is DeltaSweep "
            f"{code_version()}, which knows versions up to {LAYOUT}. Fix: install the first of these, or later",
            file=store.uri,
        )


def is_begun(store: Store) -> bool:
    """Whether anything of a results root is there."""
    return read_root(store) is not None or _has_content(store)


def claim(store: Store) -> None:
    """Say in a root in which nothing is yet who made it, and in an older one that its layout is today's from now on.

    What is no part of a root (a mount's own folders, notes, a report) is not looked at.
    """
    if (found := read_root(store)) is None and not _has_content(store):
        store.create(KEY, _text(RootRecord(LAYOUT, code_version(), timestamp())))
    elif (found.layout if found else _FIRST) < LAYOUT:
        made_by, made_at = (found.made_by, found.made_at) if found else ("0.1.0", timestamp())
        store.replace(KEY, _text(RootRecord(LAYOUT, made_by, made_at)))


def _has_content(store: Store) -> bool:
    return any(True for folder in _OWN for _ in store.keys(folder))


def _text(record: RootRecord) -> bytes:
    return json.dumps(record._asdict()).encode()


def _told(store: Store) -> tuple[int, str]:
    """Layout and maker of a root. Of a newer layout's record only these two are looked at: the rest may be anything."""
    try:
        found = read_root(store)
    except DamagedFile:
        try:
            said = json_object(store.read_within(KEY, MOST_BYTES))
        except (ValueError, DamagedFile):
            said = {}
        if type(said.get("layout")) is int and said["layout"] > LAYOUT:
            return said["layout"], str(said.get("made_by", "of a version that it does not say"))[:100]
        raise
    return (found.layout, found.made_by) if found else (_FIRST, "0.1.0")
