"""Bytes under keys: the few operations of a results root, with what they guarantee.

Keys are relative, with forward slashes. An object is seen whole or not at all, by every reader, at any
moment, whatever is killed. ``local_store`` and ``object_store`` implement this; one contract suite holds
both to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import timedelta

from jobs.errors import Code, DamagedFile, StorageFailure


class Store(ABC):
    """A results root's storage.

    Every method may be called from several threads, processes and machines at once. Every method raises
    ``StorageFailure``, with what to do about it, when the storage refuses or does not answer; then nothing is
    half written, and repeating the call is always right. Where a directory has a file in place of a folder, or
    a folder in place of a file, reading and listing raise ``DamagedFile``, naming it.
    """

    uri: str
    """What ``open_store`` takes to open this root again, on this machine or (object stores) another."""

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

        What was created before the call is listed; what is created during it may be.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def stale(self, age: timedelta) -> list[str]:
        """Keys of temporary files that killed processes left behind at least ``age`` ago; never listed by ``keys``."""
        return []


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
