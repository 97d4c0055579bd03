"""Bytes under keys: the few operations of a results root, with what they guarantee.

Keys are relative, with forward slashes. An object is seen whole or not at all, by every reader, at any
moment, whatever is killed. ``local_store`` and ``object_store`` implement this; one contract suite holds
both to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from jobs.errors import Code, DamagedFile, RootGone, StorageFailure


class Survey(NamedTuple):
    """What lies below a prefix."""

    keys: list[str]
    strangers: dict[str, DamagedFile]
    """What is neither a file nor a folder, by the key that it would have: links, named pipes, sockets, devices."""


class Store(ABC):
    """A results root's storage.

    Every method may be called from several threads, processes and machines at once. Every method raises
    ``StorageFailure``, with what to do about it, when the storage refuses or does not answer; then nothing is
    half written, and repeating the call is always right. Where a directory has a file in place of a folder,
    a folder in place of a file, or what is neither (a link, a named pipe), reading and listing raise ``DamagedFile``,
    naming it.
    """

    uri: str
    """What ``open_store`` takes to open this root again, on this machine or (object stores) another."""
    _held: tuple[str, ...] = ()

    def hold(self, *keys: str) -> None:
        """From now on write only where these objects stand: a launch's own records say that this is still its root.

        Raises:
            RootGone: when one does not stand there. So does every write from now on.
        """
        self._held = keys
        self.require_held()

    def require_held(self) -> None:
        """Look for what ``hold`` named; a no-op before. Every write begins with it. Raises RootGone."""
        for key in self._held:
            if not self._stands(key):
                raise root_gone(
                    self.uri, f"{key} is not there any more: the root was emptied, replaced, or is not mounted here"
                )

    def _stands(self, key: str) -> bool:
        """Whether an object is there."""
        try:
            self.read(key)
        except FileNotFoundError:
            return False
        return True

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Put an object where none is, durably, whichever way this returns.

        Of any number of callers for one key exactly one gets True, also when all bring the same bytes and when
        the storage's reply was lost on the way. False: another call put an object there; it is untouched. Only
        a caller that was killed or got ``StorageFailure`` does not know; it finds out by calling again, where
        False may then stand for its own first call.
        """

    @abstractmethod
    def replace(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Put an object whether or not one is there; readers see the old or the new one, never a mixture.

        Args:
            durable: True: it survives a loss of power once this returns. False: still atomic, but a loss of
                power may bring back the old object or, on some file systems, an empty one. For what costs
                time and no result when lost: checkpoints (they carry a digest), heartbeats.
        """

    @abstractmethod
    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        """Put an object if the one there has exactly the bytes ``expected`` (None: if none is there), durably.

        Of any number of callers that expect the same bytes exactly one gets True. A key that is swapped must be
        written by nothing else.
        """

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The object's bytes. Raises FileNotFoundError when there is none."""

    def read_within(self, key: str, most: int) -> bytes:
        """As ``read``, of an object that is to have at most so many bytes; where the storage tells its size it is
        known before it is read.

        Raises:
            DamagedFile: when it is larger.
        """
        data = self.read(key)
        self._require_small(key, len(data), most)
        return data

    def _require_small(self, key: str, size: int, most: int) -> None:
        if size > most:
            file = f"{self.uri}/{key}"
            raise DamagedFile(
                Code.WRONG_PLACE,
                f"a file of its kind has at most {most:,} bytes; {file} has {size:,}: it is no such file. Move it away",
                file=file,
            )

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below a prefix (a folder, without slash at its end), in no particular order.

        What was created before the call is listed; what is created during it may be. Hidden names (.DS_Store, .nfs...)
        are nobody's: keys with one are left out.
        """

    def survey(self, prefix: str) -> Survey:
        """As ``keys``, but what is no file is told beside them, where ``keys`` raises."""
        return Survey(list(self.keys(prefix)), {})

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error. Nor do folders stay that it leaves empty."""

    def stale(self, age: timedelta) -> list[str]:
        """Keys of temporary files that killed processes left behind at least ``age`` ago; never listed by ``keys``."""
        return []


def is_hidden(key: str) -> bool:
    """Whether a part of a key is a hidden name."""
    return key.startswith(".") or "/." in key


def root_gone(uri: str, why: str) -> RootGone:
    """The error of a command that does not find the results root with which it began."""
    return RootGone(
        Code.STORAGE,
        f"expected the results root {uri} as it was when this command began; {why}. Nothing was written in its place. "
        "Fix: bring it back, then resume",
        file=uri,
    )


def require_present(store: Store, key: str, why: str, most: int | None = None) -> bytes:
    """The bytes of an object that must be there.

    Args:
        most: how many it may have; None: any number.

    Raises:
        StorageFailure: when it is not, with ``why`` it was expected.
        DamagedFile: when it is larger.
    """
    try:
        return store.read(key) if most is None else store.read_within(key, most)
    except FileNotFoundError as error:
        raise StorageFailure(
            Code.STORAGE,
            f"{store.uri}/{key} vanished while it was used ({why}); repeat the command",
            file=f"{store.uri}/{key}",
        ) from error
