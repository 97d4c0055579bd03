"""The exceptions that DeltaSweep raises on purpose, each with a code that stays and the place that it is about.

::

    DeltaSweepError                 anything below; the command line prints its message and exits with 2 or 3
    ├── InvalidRequest (ValueError) what the user asked for cannot be: the rule, the value, the remedy
    ├── MissingData                 a file the request needs is not on this machine
    ├── DamagedFile                 a file is there but is not what its name promises
    ├── ResultsConflict             the results root already holds something that contradicts this
    └── StorageFailure (OSError)    a results root or this machine's disk cannot be read or written: full, refused
        └── RootGone                the results root is not the one with which the command began

Everything else that escapes is a bug, or this machine's failure; the command line tells them apart
(``orchestrator.cli_errors``). Words may get better from release to release; codes and
places are for programs (``--json``) and tests.
"""

import errno
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Self


class Code(StrEnum):
    """What is wrong, in a word that no release changes. docs/errors.md lists them."""

    # --- requests: what a person wrote ---
    UNKNOWN_NAME = "unknown-name"
    """A name that stands for nothing: of a study, source, dataset, network, trial, launch, column or value."""
    WRONG_NAME = "wrong-name"
    """A name that has not the form of one, or is taken."""
    UNKNOWN_KEY = "unknown-key"
    """A key of a file that its section has not."""
    MISSING_KEY = "missing-key"
    """A key or option that is needed and not there."""
    REPEATED = "repeated"
    """A key, name or value that is there twice where once is meant."""
    WRONG_VALUE = "wrong-value"
    """A value that breaks its rule."""
    IMPOSSIBLE_TRIAL = "impossible-trial"
    """Values that are right one by one and describe trials that cannot be."""
    NO_SUCH_FILE = "no-such-file"
    """A file that was named is not there."""
    UNREADABLE_FILE = "unreadable-file"
    """A file that was named cannot be read as what it should be: not text, not YAML, not CSV of a known form."""
    WRONG_PLACE = "wrong-place"
    """A place that cannot be read from or written to as asked: a file for a directory, an address of no store."""
    WRONG_QUERY = "wrong-query"
    """SQL that cannot be answered, or that is more than a question."""
    NO_ANSWER = "no-answer"
    """A right question that the results have no answer to: nothing was evaluated there, no baseline follows."""

    # --- roots ---
    NO_ROOT = "no-root"
    """A results root to read from that is not there, or in which nothing was launched."""
    ROOT_NOT_WRITABLE = "root-not-writable"
    """A results root in which nothing can be written."""
    NEWER_VERSION = "newer-version"
    """A root or a file that a newer DeltaSweep wrote."""
    IN_USE = "in-use"
    """A root that a launch works on."""

    # --- machines and clusters ---
    NO_CLUSTER = "no-cluster"
    """No Ray cluster answers, it is of another version, or Ray cannot start here."""
    CLUSTER_TOO_SMALL = "cluster-too-small"
    """No machine is large enough for a trial."""
    VERSIONS_DIFFER = "versions-differ"
    """Machines of one launch have different packages."""
    MISSING_DATA = "missing-data"
    """Images of a dataset that are not on this machine."""
    MISSING_WEIGHTS = "missing-weights"
    """Weights of a source or trial that are not where they are needed."""
    NO_DOWNLOAD = "no-download"
    """A file that no mirror gives: no network, not found, cut off."""

    # --- files that are not what their name promises ---
    DAMAGED_RESULT = "damaged-result"
    """A result that cannot be read, is another's, or lies about itself."""
    DAMAGED_RECORD = "damaged-record"
    """A record that cannot be read: of a root (a pin, study, launch, failure, or its own), or beside fetched files."""
    DAMAGED_INDEX = "damaged-index"
    """The compacted index of a root; no result is lost with it."""
    DAMAGED_DATA = "damaged-data"
    """Images or labels that are not those of their card: another digest, a wrong count, torn."""
    DAMAGED_WEIGHTS = "damaged-weights"
    """Weights that are not those of their card, or of the network that they should be of."""
    DAMAGED_DOWNLOAD = "damaged-download"
    """What mirrors give is another file than its digest or size says."""

    # --- what contradicts itself ---
    OTHER_DIGEST = "other-digest"
    """A name that stands for other weights, images or cards in a root."""
    NOT_PAIRED = "not-paired"
    """Trials that should be pairs and are not: two of one seed, or of different subsets."""

    # --- storage ---
    STORAGE = "storage"
    """A storage that refuses or does not answer; trying again is right."""
    OUT_OF_MEMORY = "out-of-memory"
    """What this machine has too little memory to read or to compute. Trying again, or elsewhere, is right."""

    INTERNAL = "internal"
    """Of a part that others build on: no user's request leads to it."""


class Place(NamedTuple):
    """Where something is wrong."""

    file: str = ""
    """A path or address; empty: in none."""
    line: int | None = None
    """From 1."""
    key: str = ""
    """A key of a file, a column, or an option: ``grid.source[0]``, ``--address``."""


class Mistake(NamedTuple):
    """One of several things that are wrong with one request."""

    code: Code
    place: Place
    message: str


class DeltaSweepError(Exception):
    """Base of all expected errors; the message is written for the person at the terminal."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        file: object = "",
        line: int | None = None,
        key: str = "",
        mistakes: Sequence[Mistake] = (),
    ) -> None:
        """
        Args:
            file: the path or address that it is about.
            key: of a file, a column, or an option.
            mistakes: all that is wrong, where the message tells several.
        """
        super().__init__(message)
        self.code = code
        self.place = Place(str(file), line, key)
        self.mistakes = tuple(mistakes)

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel between processes."""
        return _remade, (type(self), str(self), self.__dict__)

    def plain(self) -> dict[str, Any]:
        """For machines: what ``--json`` prints of it."""
        said: dict[str, Any] = {"code": self.code.value, "message": str(self), **self.place._asdict()}
        if self.mistakes:
            said["mistakes"] = [
                {"code": one.code.value, "message": one.message, **one.place._asdict()} for one in self.mistakes
            ]
        return {"error": said}

    @classmethod
    def _bare(cls, message: str) -> Self:
        made = cls.__new__(cls, message)
        Exception.__init__(made, message)
        return made


def _remade(kind: type[DeltaSweepError], message: str, state: dict[str, Any]) -> DeltaSweepError:
    made = kind._bare(message)
    made.__dict__.update(state)
    return made


class InvalidRequest(DeltaSweepError, ValueError):
    """A value breaks a rule. The message gives the rule, the value received and the remedy."""


class MissingData(DeltaSweepError):
    """Weights or images are needed that are not on this machine. The message says how to get them."""


class DamagedFile(DeltaSweepError):
    """A file cannot be read as what it should be. The message names its path and what to do."""


class ResultsConflict(DeltaSweepError):
    """The results root pins something else under the same name (a digest, a trial id)."""


class StorageFailure(DeltaSweepError, OSError):
    """The storage below a results root, or this machine's disk, refuses or does not answer.

    What stood there stands; nothing is half written.

    An OSError, because it is the machine's fault and not the trial's: the same call may succeed later.
    """

    refuses: bool
    """Whether nothing will get better by itself: what was asked for is not allowed, or cannot be, in that place.
    Otherwise something failed or is full."""

    def __init__(self, code: Code, message: str, *, refuses: bool = False, **place: Any) -> None:
        """
        Args:
            place: as of every expected error.
        """
        super().__init__(code, message, **place)
        self.refuses = refuses or code is Code.WRONG_PLACE


class RootGone(StorageFailure):
    """A results root is not there any more, or another is in its place. It is not made again, and nobody goes on."""


def machine_failure(error: BaseException, file: object) -> StorageFailure | None:
    """The failure to raise in place of an error that says nothing about the file that was being read: memory, file
    handles or the disk below failed. None: the file may be at fault.

    An ``OSError`` of the system has a number; libraries raise others, without one, about what they read.
    """
    if isinstance(error, StorageFailure):
        return error
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return out_of_memory(error, file)
    if isinstance(error, OSError) and error.errno is not None:
        return StorageFailure(
            Code.STORAGE,
            f"{file} cannot be read now ({error.strerror or error}); nothing says that it is damaged. Fix: try again "
            "when this machine is well",
            file=file,
        )
    return None


def out_of_memory(error: MemoryError | OSError, file: object) -> StorageFailure:
    """The failure of a machine that has too little memory to read a file."""
    return StorageFailure(
        Code.OUT_OF_MEMORY,
        f"this machine has too little memory to read {file} ({' '.join(str(error).split()) or 'out of memory'}); "
        "nothing says that it is damaged. Fix: end other programs, or take a machine with more memory; try again",
        file=file,
    )
