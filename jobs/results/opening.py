"""From the text after ``--results`` to a store."""

import uuid
from pathlib import Path

from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.results.local_store import TEMPORARY, LocalStore
from jobs.results.root_record import claim, require_layout
from jobs.results.store import Store


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
    if "://" in text:
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
    standing = next(place for place in (path, *path.parents) if place.exists())
    if not standing.is_dir():
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"a results root is a directory; {standing} is a file. Name another place",
            file=standing,
            key="--results",
        )
    return LocalStore(path)


def begin(store: Store) -> None:
    """Before anything is written into a root: fail now rather than after the first hour of training, and say in an
    empty root who made it.

    Raises:
        InvalidRequest: when the root refuses to be written below, or a newer DeltaSweep has another layout there;
            nothing is left behind.
        StorageFailure: when the storage fails, or is full.
        DamagedFile: when what the root says of itself cannot be read.
    """
    key = f"{TEMPORARY}/write-test-{uuid.uuid4().hex}"
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
