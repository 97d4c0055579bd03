"""Opening the store for the value of ``--results``."""

import os
import re
import uuid
from pathlib import Path

from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.paths import expanded
from jobs.results.compaction import forget_removed
from jobs.results.local_store import TEMPORARY, WRITE_TEST, LocalStore
from jobs.results.root_record import claim, require_layout
from jobs.results.store import Store
from jobs.specs.base import NAME_BYTES

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*):(/+)(.*)|(s3[an]?|gs|gcs|file):(.*)", re.IGNORECASE | re.DOTALL)
_PATH_BYTES = 3_500
"""Maximum length of a root's path: Linux allows 4,096 bytes for a whole path, including those of lock files."""
_BUCKET = re.compile(r"(s3|gs)://[^/]")
_SPELLINGS = {"s3": "s3", "s3a": "s3", "s3n": "s3", "gs": "gs", "gcs": "gs"}


def open_store(root: str | Path) -> Store:
    """Return the store of a results root: a directory, or an ``s3://`` or ``gs://`` prefix.

    Storage is not contacted yet, and the root is created with its first object. ``open_store(store.uri)`` opens the
    same root.

    Raises:
        InvalidRequest: if the root is empty text, a file, or on an unsupported type of storage.
    """
    text = str(root)
    if not text.strip():
        raise InvalidRequest(
            Code.WRONG_PLACE,
            "expected a results root: a directory, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX; got empty text",
            key="--results",
        )
    if (match := _ADDRESS.match(text)) and not _BUCKET.match(text):
        raise _wrong_address(text, match)
    if match:
        from jobs.results.object_store import ObjectStore  # local roots do not need the client for object stores

        return ObjectStore(text)
    path = expanded(text, "--results").absolute()
    _require_possible(path, text)
    standing = next(place for place in (path, *path.parents) if place.exists())
    if not standing.is_dir():
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected a directory as the results root; {standing} is a file. Fix: choose another path",
            file=standing,
            key="--results",
        )
    return LocalStore(path)


def open_existing(root: str | Path) -> Store:
    """Return the store of a results root that exists: more is expected in it than in a mistyped one.

    Raises:
        InvalidRequest, DamagedFile, StorageFailure: as ``open_store`` and ``require_root``.
    """
    store = open_store(root)
    require_root(store)
    return store


def is_address(text: str) -> bool:
    """Return whether the text is a URL of a bucket or anything else that is not a local directory, in any spelling."""
    return _ADDRESS.match(text) is not None


def _require_possible(path: Path, text: str) -> None:
    """Refuse a path that no file system supports, before any part of it is created."""
    longest = max((os.fsencode(part) for part in path.parts), key=len)
    problem = None
    if "\0" in text:
        problem = "it contains a null byte"
    elif len(longest) > NAME_BYTES:
        problem = f"{os.fsdecode(longest)[:20]}... has {len(longest)} bytes; names may have at most {NAME_BYTES}"
    elif len(os.fsencode(path)) > _PATH_BYTES:
        problem = f"it has {len(os.fsencode(path)):,} bytes; the path of a root may have at most {_PATH_BYTES:,}"
    if problem:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected the path of a directory as the results root; {text[:200]} cannot be one: {problem}. "
            "Fix: choose another path",
            file=text,
            key="--results",
        )


def _wrong_address(text: str, match: re.Match[str]) -> InvalidRequest:
    scheme, rest = (match[1], match[3]) if match[1] else (match[4], match[5])
    known = _SPELLINGS.get(scheme.lower())
    fix = f"write {known}://{rest.strip('/')}" if known else "use a directory, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
    if scheme.lower() == "file":
        fix = f"write /{rest.lstrip('/')}"
    return InvalidRequest(
        Code.WRONG_PLACE,
        "expected a results root: a directory, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX; got "
        f"{text}. Fix: {fix}, or ./{text} for a directory with this name",
        file=text,
        key="--results",
    )


def begin(store: Store) -> None:
    """Check that a root is writable, and that its storage honours the conditions of writes, so that a launch fails now
    rather than after an hour of training, and write ``root.json`` into an empty root. Trials whose results were removed
    are dropped from the index, since they may run again.

    Raises:
        InvalidRequest: if the root is not writable, or a newer DeltaSweep with another layout wrote it; nothing is left
            behind.
        StorageFailure: if the storage fails, or is full.
        DamagedFile: if ``root.json`` cannot be read.
    """
    key = f"{TEMPORARY}/{WRITE_TEST}{uuid.uuid4().hex}"
    try:
        require_layout(store)
        store.require_guarantees(key)
    except StorageFailure as error:
        if not error.refuses:
            raise
        raise InvalidRequest(
            Code.ROOT_NOT_WRITABLE,
            f"expected a writable results root; {store.uri} is not: {error}, or choose another root with --results",
            file=store.uri,
            key="--results",
        ) from error
    if isinstance(store, LocalStore):
        store.require_one_file_system()
    claim(store)
    forget_removed(store)


def root_exists(store: Store) -> bool:
    """Return whether the directory of a results root exists, or anything below its prefix. Nothing is written.

    Raises:
        InvalidRequest: if the bucket does not exist.
        StorageFailure: if the storage fails.
    """
    return Path(store.uri).is_dir() if isinstance(store, LocalStore) else any(True for _ in store.keys(""))


def require_root(store: Store) -> None:
    """Refuse to read from a results root that does not exist, as a mistyped ``--results`` would otherwise look empty.

    Raises:
        InvalidRequest: if the directory does not exist, or there is nothing below the prefix; or a newer DeltaSweep
            with another layout wrote the root.
        DamagedFile: if ``root.json`` cannot be read.
        StorageFailure: if the storage fails.
    """
    if not root_exists(store):
        raise InvalidRequest(
            Code.NO_ROOT,
            f"expected an existing results root; {store.uri} does not exist. Fix: check --results",
            file=store.uri,
            key="--results",
        )
    require_layout(store)
