"""The storage interface of a results root: operations on bytes under keys, and their guarantees.

Keys are relative paths with forward slashes. Objects are atomic: at any time every reader sees either a complete object
or none, whichever processes are killed. ``local_store`` and ``object_store`` implement the interface, and both pass the
same contract tests.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from jobs.errors import Code, DamagedFile, RootGone, StorageFailure


class Survey(NamedTuple):
    """The entries below a prefix."""

    keys: list[str]
    strangers: dict[str, DamagedFile]
    """Entries that are neither files nor folders, by the key they would have: links, named pipes, sockets, devices."""


class Store(ABC):
    """The storage of a results root.

    All methods may be called concurrently from several threads, processes and machines. Every method raises
    ``StorageFailure``, with the fix in its message, if the storage denies access or does not respond; nothing is then
    partially written, and it is always safe to repeat the call. If a directory has a file in place of a folder, a
    folder in place of a file, or something that is neither (a link, a named pipe), reading and listing raise
    ``DamagedFile``, naming it.
    """

    uri: str
    """The text with which ``open_store`` opens this root again, on this or (for object stores) another machine."""
    _held: tuple[str, ...] = ()

    def hold(self, *keys: str) -> None:
        """Require from now on that these objects exist before every write. A launch passes the keys of its own records,
        to ensure that it still writes to the same root.

        Raises:
            RootGone: if one of them does not exist; every later write also raises this.
        """
        self._held = keys
        self.require_held()

    def require_held(self) -> None:
        """Check that the objects passed to ``hold`` exist; every write calls this first.

        Raises:
            RootGone: if one of them does not exist.
        """
        for key in self._held:
            if not self._stands(key):
                raise root_gone(
                    self.uri, f"{key} no longer exists: the root was emptied, replaced, or is not mounted here"
                )

    def _stands(self, key: str) -> bool:
        """Return whether an object exists."""
        try:
            self.read(key)
        except FileNotFoundError:
            return False
        return True

    def require_guarantees(self, key: str) -> None:
        """Require that the storage accepts writes and honours their conditions; writes and removes a test object.

        Raises:
            StorageFailure: if it does not.
        """
        self.create(key, b"")
        again = self.create(key, b"again")
        self.delete(key)
        if again:
            raise ignores_conditions(self.uri, "it creates an object that exists already")

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Create an object if none exists. When this returns, the object is durable, whichever call created it.

        Of any number of callers with the same key exactly one gets True, even if all pass the same bytes, or the
        storage's reply was lost. False: another call created the object, which is unchanged. The outcome is unknown
        only to a caller that was killed or got ``StorageFailure``; it can call again, and False may then refer to its
        own first call.
        """

    @abstractmethod
    def replace(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Create or replace an object; readers see either the old or the new one, never a mixture.

        Args:
            durable: True: once this returns, the object survives a power failure. False: still atomic, but a power
                failure may bring back the old object or, on some file systems, leave an empty one. For objects whose
                loss costs only time: checkpoints (which carry a digest), heartbeats.
        """

    @abstractmethod
    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        """Replace an object, durably, if it has exactly the bytes ``expected`` (None: if it does not exist).

        Of any number of callers that expect the same bytes exactly one gets True. A key that is swapped must not be
        replaced, and may be created only if no caller expects None.
        """

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return the object's bytes.

        Raises:
            FileNotFoundError: if it does not exist.
        """

    def read_within(self, key: str, most: int) -> bytes:
        """Like ``read``, for an object of at most ``most`` bytes; the size is checked before reading, if the storage
        provides it.

        Raises:
            FileNotFoundError: if it does not exist.
            DamagedFile: if it is larger.
        """
        data = self.read(key)
        self._require_small(key, len(data), most)
        return data

    def sha256_within(self, key: str, most: int) -> str:
        """Return the SHA-256, in hexadecimal digits, of an object of at most ``most`` bytes.

        Stores with large objects read them in parts for this.

        Raises:
            FileNotFoundError: if it does not exist.
            DamagedFile: if it is larger.
        """
        return hashlib.sha256(self.read_within(key, most)).hexdigest()

    def read_start(self, key: str, size: int) -> bytes:
        """Return the first bytes of an object: ``size`` of them, or all if it is shorter. Only these are transferred.

        Raises:
            FileNotFoundError: if it does not exist.
        """
        return self.read(key)[:size]

    @abstractmethod
    def written_at(self, key: str) -> datetime:
        """Return when an object was written, by the clock of the storage: that of a file server, not of this machine.

        Raises:
            FileNotFoundError: if it does not exist.
        """

    def _require_small(self, key: str, size: int, most: int) -> None:
        if size > most:
            file = f"{self.uri}/{key}"
            raise DamagedFile(
                Code.WRONG_PLACE,
                f"expected at most {most:,} bytes; {file} has {size:,}, and cannot be a valid file. Fix: move it away",
                file=file,
            )

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """Yield all keys below a prefix (a folder, without trailing slash), in no particular order.

        Objects created before the call are listed; objects created during it may be. Keys with hidden names (.DS_Store,
        .nfs...) and markers of folders are left out.
        """

    def survey(self, prefix: str) -> Survey:
        """Like ``keys``, but return entries that are not files separately, where ``keys`` raises."""
        return Survey(list(self.keys(prefix)), {})

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object, if it exists, and the folders that this leaves empty."""

    def stale(self, age: timedelta) -> list[str]:
        """Return the keys of temporary files that killed processes left at least ``age`` ago; ``keys`` omits them."""
        return []


def is_hidden(key: str) -> bool:
    """Return whether any component of a key is a hidden name."""
    return key.startswith(".") or "/." in key


def ignores_conditions(uri: str, why: str) -> StorageFailure:
    """Return the error for storage that accepts conditional writes but ignores their conditions."""
    return StorageFailure(
        Code.WRONG_PLACE,
        "expected a results root on storage that honours the conditions of writes, which create results only once; "
        f"{uri} ignores them: {why}. Fix: use a later version of this service, or another service",
        file=uri,
        key="--results",
    )


def root_gone(uri: str, why: str) -> RootGone:
    """Return the error for a command whose results root has disappeared or was replaced."""
    return RootGone(
        Code.STORAGE,
        f"expected the results root {uri} as it was when this command started; {why}. Nothing was written in its "
        "place. Fix: restore it, then resume",
        file=uri,
    )


def require_present(store: Store, key: str, why: str, most: int | None = None) -> bytes:
    """Return the bytes of an object that must exist.

    Args:
        why: why it was expected, for the message.
        most: the maximum number of bytes; None: no limit.

    Raises:
        StorageFailure: if it does not exist.
        DamagedFile: if it is larger than ``most``.
    """
    try:
        return store.read(key) if most is None else store.read_within(key, most)
    except FileNotFoundError as error:
        raise StorageFailure(
            Code.STORAGE,
            f"{store.uri}/{key} disappeared while in use ({why}). Fix: run the command again",
            file=f"{store.uri}/{key}",
        ) from error
