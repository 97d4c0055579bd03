"""The exceptions that DeltaSweep raises deliberately, each with a stable code and the place it refers to.

::

    DeltaSweepError                 base class; the command line prints the message and exits with 2, 3 or (a bug) 70
    ├── InvalidRequest (ValueError) the request breaks a rule; the message gives rule, value and fix
    ├── MissingData                 a file that the request needs is not on this machine
    ├── DamagedFile                 a file exists, but its contents are not what they should be
    ├── ResultsConflict             the results root already contains something that contradicts the request
    └── StorageFailure (OSError)    a results root or the local disk cannot be read or written: full, access denied
        └── RootGone                the results root is no longer the one that the command started with

Any other exception is either a bug or an infrastructure failure; the command line distinguishes the two
(``orchestrator.cli.exit_codes``). Messages may be reworded in any release; programs (``--json``) and tests rely on
codes and places.
"""

import errno
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Self


class Code(StrEnum):
    """The code of an error, which never changes between releases. docs/reference/errors.md lists all codes."""

    # --- invalid requests ---
    UNKNOWN_NAME = "unknown-name"
    """A name that is not known: of a study, source, dataset, network, trial, launch, column or value."""
    WRONG_NAME = "wrong-name"
    """A name that is malformed or already taken."""
    UNKNOWN_KEY = "unknown-key"
    """A key that its section of the file does not have."""
    MISSING_KEY = "missing-key"
    """A required key or option is missing."""
    REPEATED = "repeated"
    """A key, name or value is given twice where it is allowed once."""
    WRONG_VALUE = "wrong-value"
    """A value that breaks a rule."""
    IMPOSSIBLE_TRIAL = "impossible-trial"
    """Values that are valid individually, but together describe a trial that cannot exist."""
    NO_SUCH_FILE = "no-such-file"
    """The given file does not exist."""
    UNREADABLE_FILE = "unreadable-file"
    """The given file cannot be parsed: not text, not YAML, or not CSV in a known format."""
    WRONG_PLACE = "wrong-place"
    """A location that cannot be read or written as requested: a file instead of a directory, an unknown storage URL."""
    WRONG_QUERY = "wrong-query"
    """Invalid SQL, or SQL that does more than read."""
    NO_ANSWER = "no-answer"
    """A valid query that the results cannot answer: no such evaluations, or no baseline can be inferred."""

    # --- results roots ---
    NO_ROOT = "no-root"
    """The results root to read from does not exist, or nothing was launched in it."""
    ROOT_NOT_WRITABLE = "root-not-writable"
    """The results root is not writable."""
    NEWER_VERSION = "newer-version"
    """A results root or a file that was written by a newer DeltaSweep."""
    IN_USE = "in-use"
    """The results root is in use by a launch."""

    # --- machines and clusters ---
    NO_CLUSTER = "no-cluster"
    """No Ray cluster responds, it runs another version of Ray, or Ray cannot start on this machine."""
    CLUSTER_TOO_SMALL = "cluster-too-small"
    """No node is large enough for a trial."""
    VERSIONS_DIFFER = "versions-differ"
    """The nodes of one launch have different package versions."""
    UNUSABLE_PACKAGE = "unusable-package"
    """A package that adds a kind of trial, builds a network or converts a table is not installed, cannot be loaded, or
    adds something else."""
    UNUSABLE_NETWORK = "unusable-network"
    """A network that trials cannot use: its builder fails, it cannot be divided into blocks, its last layer is not
    linear, its numbers would not be reproducible, or it is not the one that its card describes."""
    MISSING_DATA = "missing-data"
    """The images of a dataset are not on this machine."""
    MISSING_WEIGHTS = "missing-weights"
    """The weights of a source or trial are not where they are needed."""
    NO_DOWNLOAD = "no-download"
    """A file that cannot be downloaded from any mirror: no network, not found, connection lost."""

    # --- damaged files ---
    DAMAGED_RESULT = "damaged-result"
    """A result that cannot be read, belongs to another trial, or contradicts its own metadata."""
    DAMAGED_RECORD = "damaged-record"
    """An unreadable record: in a results root (pin, study, launch, failure, `root.json`), or next to fetched files."""
    DAMAGED_INDEX = "damaged-index"
    """The compacted index of a results root is damaged; no result is lost."""
    DAMAGED_DATA = "damaged-data"
    """Images or labels that do not match their dataset card: wrong digest, wrong count, truncated files."""
    DAMAGED_WEIGHTS = "damaged-weights"
    """Weights that do not match their card or their network."""
    DAMAGED_DOWNLOAD = "damaged-download"
    """A download whose digest or size is not the expected one, and that no other mirror provides correctly."""

    # --- contradictions ---
    OTHER_DIGEST = "other-digest"
    """A name that refers to other weights, images or cards in the results root, or a file with another digest."""
    NOT_PAIRED = "not-paired"
    """Trials that should form pairs but do not: two with the same seed, or with different subsets."""

    # --- storage ---
    STORAGE = "storage"
    """Storage that denies access or does not respond; try again."""
    OUT_OF_MEMORY = "out-of-memory"
    """This machine has too little memory to read or compute something; try again, here or on a larger machine."""

    INTERNAL = "internal"
    """An error in a component that other code builds on; no user request leads to it."""


class Place(NamedTuple):
    """The location of an error."""

    file: str = ""
    """A path or address; empty if the error is not about a file."""
    line: int | None = None
    """Line number, starting at 1."""
    key: str = ""
    """A key in a file, a column, or an option: ``grid.source[0]``, ``--address``."""


class Mistake(NamedTuple):
    """One of several mistakes in one request."""

    code: Code
    place: Place
    message: str
    value: Any = None
    """The value that breaks the rule, if the key can have several values."""


class DeltaSweepError(Exception):
    """Base class of all expected errors; the message is written for the user at the terminal."""

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
        """Create an error with its code and place.

        Args:
            file: the path or address that the error is about.
            line: the line in the file, starting at 1.
            key: a key in the file, a column, or an option.
            mistakes: all mistakes, where the message lists several.
        """
        super().__init__(message)
        self.code = code
        self.place = Place(str(file), line, key)
        self.mistakes = tuple(mistakes)

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling: errors are passed between processes."""
        return _remade, (type(self), str(self), self.__dict__)

    def plain(self) -> dict[str, Any]:
        """Return the error as the JSON object that ``--json`` prints."""
        said: dict[str, Any] = {"code": self.code.value, "message": str(self), **self.place._asdict()}
        if self.mistakes:
            said["mistakes"] = [
                {"code": one.code.value, "message": one.message, **one.place._asdict()} for one in self.mistakes
            ]
        return {"error": said}

    def reworded(self, message: str, key: str) -> Self:
        """Return this error with another message and key, for a caller that knows more about its place."""
        copy = self._bare(message)
        copy.__dict__.update(self.__dict__, place=self.place._replace(key=key))
        return copy

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
    """A value breaks a rule. The message states the rule, the value received and the fix."""


class MissingData(DeltaSweepError):
    """Required weights or images are not on this machine. The message says how to get them."""


class DamagedFile(DeltaSweepError):
    """A file's contents are not what they should be. The message contains its path and the fix."""


class ResultsConflict(DeltaSweepError):
    """The results root has another digest pinned under the same name, or another result under the same trial id."""


class StorageFailure(DeltaSweepError, OSError):
    """The storage of a results root, or the local disk, denies access or does not respond.

    Existing objects are unchanged; nothing is partially written.

    It is an ``OSError`` because it is an infrastructure failure, not an error of the trial: the same call may succeed
    later.
    """

    refuses: bool
    """Whether trying again is futile, because the operation is not permitted or not possible in that place. False: the
    storage failed or is full.
    """

    def __init__(self, code: Code, message: str, *, refuses: bool = False, **place: Any) -> None:
        """Create a failure of the storage.

        Args:
            refuses: whether the operation is not permitted or not possible in that place.
            place: ``file``, ``line`` and ``key``, as for ``DeltaSweepError``.
        """
        super().__init__(code, message, **place)
        self.refuses = refuses or code is Code.WRONG_PLACE


class RootGone(StorageFailure):
    """A results root has disappeared or was replaced. It is not recreated, and the command does not continue."""


MOST_LISTED = 20
"""The number of errors that a combined message lists."""


def first_lines(lines: Sequence[str]) -> list[str]:
    """Return the first ``MOST_LISTED`` lines of a combined message, one per error, and the number of the others."""
    unlisted = len(lines) - MOST_LISTED
    return [*lines[:MOST_LISTED], *([f"... and {unlisted:,} more"] if unlisted > 0 else [])]


def raise_together(errors: Sequence[DeltaSweepError]) -> None:
    """Raise one error that lists all errors; a single error is raised unchanged, and an empty list raises nothing.

    The combined error has the code and place of the first one, and the class of all of them if they share one. Its
    message lists the first ``MOST_LISTED`` of them, its ``mistakes`` all.
    """
    if not errors:
        return
    first, *others = errors
    if not others:
        raise first
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else DeltaSweepError
    raise kind(
        first.code,
        "\n".join(first_lines([str(error) for error in errors])),
        **first.place._asdict(),
        mistakes=[Mistake(error.code, error.place, str(error)) for error in errors],
    )


_OF_CONTENTS = {None, errno.EINVAL, errno.EOVERFLOW}
"""Numbers of errors that contents may cause: of none, and of a position before or far behind a file."""


def machine_failure(error: BaseException, file: object) -> StorageFailure | None:
    """Return the failure to raise instead of an error that is not caused by the contents of the file being read:
    memory, file handles or the disk failed. Return None if the file itself may be the cause.

    An ``OSError`` from the operating system has an ``errno``; libraries raise ``OSError`` without one for invalid
    file contents. A few numbers mean that the contents led a library to an impossible place in the file.
    """
    if isinstance(error, StorageFailure):
        return error
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return out_of_memory(error, file)
    if isinstance(error, OSError) and error.errno not in _OF_CONTENTS:
        return StorageFailure(
            Code.STORAGE,
            f"{file} cannot be read now ({error.strerror or error}); this does not mean that it is damaged. Fix: check "
            "this machine's disk and memory, then try again",
            file=file,
        )
    return None


def reading_failure(error: BaseException, file: object, damaged: DamagedFile) -> DamagedFile | StorageFailure:
    """Return the error to raise after an error while a file or folder of the user's machine was read.

    Only contents that are not what they should be are damage; a file that may not be read or does not exist, and a
    failure of the machine (``machine_failure``), have other remedies.

    Args:
        damaged: the error to return if the contents are at fault. Its code is also that of a file that may not be read
            or does not exist.
    """
    if isinstance(error, PermissionError):
        reason, remedy = error.strerror or str(error), "make it readable, or remove it"
    elif isinstance(error, FileNotFoundError | NotADirectoryError):
        reason, remedy = error.strerror or str(error), "put the original file back"
    else:
        return machine_failure(error, file) or damaged
    return DamagedFile(damaged.code, f"{file} cannot be read ({reason}). Fix: {remedy}", file=file)


def out_of_memory(error: MemoryError | OSError, file: object) -> StorageFailure:
    """Return the failure of a machine that has too little memory to read a file."""
    return StorageFailure(
        Code.OUT_OF_MEMORY,
        f"this machine has too little memory to read {file} ({' '.join(str(error).split()) or 'out of memory'}); "
        "this does not mean that it is damaged. Fix: close other programs or use a machine with more memory, then try "
        "again",
        file=file,
    )
