"""From the text after ``--results`` to a store."""

import os
import re
import uuid
from pathlib import Path

from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.results.layout import NAME_BYTES
from jobs.results.local_store import TEMPORARY, WRITE_TEST, LocalStore
from jobs.results.root_record import claim, require_layout
from jobs.results.store import Store

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*):(/+)(.*)|(s3[an]?|gs|gcs|file):(.*)", re.IGNORECASE | re.DOTALL)
_PATH_BYTES = 3_500
"""Of a whole path, on the file systems that there are: Linux takes 4,096 bytes, lock files included."""
_BUCKET = re.compile(r"(s3|gs)://[^/]")
_SPELLINGS = {"s3": "s3", "s3a": "s3", "s3n": "s3", "gs": "gs", "gcs": "gs"}


def open_store(root: str | Path) -> Store:
    """The store of a results root: a directory, or an ``s3://`` or ``gs://`` prefix; made by the first object in it.

    Nothing is contacted yet. ``open_store(store.uri)`` opens the same root.

    Raises:
        InvalidRequest: for no root, one that is a file, or a kind of storage that cannot be used.
    """
    text = str(root)
    if not text.strip():
        raise InvalidRequest(
            Code.WRONG_PLACE,
            "a results root is a directory, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX; it is empty here",
            key="--results",
        )
    if (match := _ADDRESS.match(text)) and not _BUCKET.match(text):
        raise _wrong_address(text, match)
    if match:
        from jobs.results.object_store import ObjectStore  # local roots need not load a client for object stores

        return ObjectStore(text)
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"a results root that begins with ~ lies in the home of a user of this machine; {text} does not ({error}). "
            "Write the directory in full",
            file=text,
            key="--results",
        ) from error
    _require_possible(path, text)
    standing = next(place for place in (path, *path.parents) if place.exists())
    if not standing.is_dir():
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"a results root is a directory; {standing} is a file. Name another place",
            file=standing,
            key="--results",
        )
    return LocalStore(path)


def is_address(text: str) -> bool:
    """Whether this names a bucket, or anything else that is no directory of this machine, in whatever spelling."""
    return _ADDRESS.match(text) is not None


def _require_possible(path: Path, text: str) -> None:
    """Refuse a path that no file system takes, before a part of it is made."""
    longest = max((os.fsencode(part) for part in path.parts), key=len)
    problem = None
    if "\0" in text:
        problem = "it has a zero byte"
    elif len(longest) > NAME_BYTES:
        problem = f"{os.fsdecode(longest)[:20]}... has {len(longest)} bytes, and a name at most {NAME_BYTES}"
    elif len(os.fsencode(path)) > _PATH_BYTES:
        problem = (
            f"it has {len(os.fsencode(path)):,} bytes, and a path at most {_PATH_BYTES:,} beside the names below it"
        )
    if problem:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected the path of a directory as the results root; {text[:200]} cannot be one: {problem}. "
            "Fix: name another place",
            file=text,
            key="--results",
        )


def _wrong_address(text: str, match: re.Match[str]) -> InvalidRequest:
    scheme, rest = (match[1], match[3]) if match[1] else (match[4], match[5])
    known = _SPELLINGS.get(scheme.lower())
    fix = (
        f"write {known}://{rest.strip('/')}" if known else "name a directory, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
    )
    if scheme.lower() == "file":
        fix = f"write /{rest.lstrip('/')}"
    return InvalidRequest(
        Code.WRONG_PLACE,
        "expected a results root: a directory, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX; got "
        f"{text}. Fix: {fix}, or ./{text} for a directory of this name",
        file=text,
        key="--results",
    )


def begin(store: Store) -> None:
    """Before anything is written into a root: fail now rather than after the first hour of training, and say in an
    empty root who made it.

    Raises:
        InvalidRequest: when the root refuses to be written below, or a newer DeltaSweep has another layout there;
            nothing is left behind.
        StorageFailure: when the storage fails, or is full.
        DamagedFile: when what the root says of itself cannot be read.
    """
    key = f"{TEMPORARY}/{WRITE_TEST}{uuid.uuid4().hex}"
    try:
        require_layout(store)
        store.create(key, b"")
        store.delete(key)
    except StorageFailure as error:
        if not error.refuses:
            raise
        raise InvalidRequest(
            Code.ROOT_NOT_WRITABLE,
            f"the results root must be writable; {store.uri} is not: {error} (or choose another with --results)",
            file=store.uri,
            key="--results",
        ) from error
    claim(store)


def require_root(store: Store) -> None:
    """Refuse to read from a results root that is not there: a mistyped ``--results`` has no problems to report.

    Raises:
        InvalidRequest: when the directory does not exist, or nothing is below the prefix; or a newer DeltaSweep has
            another layout there.
        DamagedFile: when what the root says of itself cannot be read.
        StorageFailure: when the storage itself fails.
    """
    exists = Path(store.uri).is_dir() if isinstance(store, LocalStore) else any(True for _ in store.keys(""))
    if not exists:
        raise InvalidRequest(
            Code.NO_ROOT,
            f"a results root to read from must exist; {store.uri} does not. Check --results",
            file=store.uri,
            key="--results",
        )
    require_layout(store)
