"""``root.json``, the record of a results root: the version of its layout, and the DeltaSweep that created it.

Commands that launch, run or merge trials write it into an empty root first. A root without it is read as one that
version 0.1.0 created, with layout 1.
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
"""Version of keys and records (docs/decisions/growth.md). It increases when an older DeltaSweep would misread what a
newer one writes, but not for columns, which have separate versions.
"""
KEY = "root.json"
_FIRST = 1
"""The layout of version 0.1.0."""
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
"""Folders that show that a root is in use, if any of them contains a file."""


class RootRecord(NamedTuple):
    """The record of a results root."""

    layout: Annotated[int, Field(ge=1)]
    made_by: str
    """The version of DeltaSweep that created the root."""
    made_at: Timestamp
    """UTC, ISO 8601."""


_RECORD = TypeAdapter(RootRecord)
_REMEDY = f"Fix: remove it if the root can be read without it; a root without {KEY} is read as one of DeltaSweep 0.1.0"


def read_root(store: Store) -> RootRecord | None:
    """Return a root's record; None if there is none, as in a root of DeltaSweep 0.1.0 or one that does not exist yet.

    Raises:
        DamagedFile: if the record cannot be read.
    """
    try:
        return read_record(store, KEY, _RECORD, "the record of a results root", _REMEDY)
    except FileNotFoundError:
        return None


def require_layout(store: Store) -> None:
    """Refuse a root with the layout of a newer DeltaSweep, which this version could misread or damage.

    Raises:
        InvalidRequest: with both versions.
        DamagedFile: if the root's record cannot be read.
    """
    layout, made_by = _told(store)
    if layout > LAYOUT:
        raise InvalidRequest(
            Code.NEWER_VERSION,
            f"{store.uri} has version {layout} of the layout, created by DeltaSweep {made_by}; this is DeltaSweep "
            f"{code_version()}, which supports versions up to {LAYOUT}. Fix: install the version that created it, or "
            "later",
            file=store.uri,
        )


def is_begun(store: Store) -> bool:
    """Return whether the store contains any part of a results root."""
    return read_root(store) is not None or _has_content(store)


def claim(store: Store) -> None:
    """Write the record of an empty root, or update the layout version in the record of an older one.

    Files that are not part of a root (a mount's own folders, notes, a report) are ignored.
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
    """Return layout and creating version of a root; in the record of a newer layout, nothing else is validated."""
    try:
        found = read_root(store)
    except DamagedFile:
        try:
            record = json_object(store.read_within(KEY, MOST_BYTES))
        except (ValueError, DamagedFile):
            record = {}
        if type(record.get("layout")) is int and record["layout"] > LAYOUT:
            return record["layout"], str(record.get("made_by", "of an unknown version"))[:100]
        raise
    return (found.layout, found.made_by) if found else (_FIRST, "0.1.0")
