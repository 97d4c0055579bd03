"""What can be wrong with a file of a results root, and how it is told. No torch."""

from enum import StrEnum
from typing import NamedTuple

from jobs.errors import Code, DamagedFile


class Problem(StrEnum):
    """What can be wrong, or worth knowing, about a file of a results root."""

    TORN = "torn"
    """Not a readable file of its format: cut short, altered, or something else altogether."""
    WRONG_VERSION = "wrong-version"
    """Of a version of the schema that this DeltaSweep does not read: a newer one wrote it, or none did."""
    WRONG_CONTENT = "wrong-content"
    """Readable, but not the rows of the trial that its name says."""
    DUPLICATE_ROWS = "duplicate-rows"
    """Two rows of one number (such as the epoch) for one trial."""
    FOREIGN = "foreign"
    """What DeltaSweep has not put there: a name that it does not give, a file in place of a folder, a link, a pipe."""
    MISNAMED = "misnamed"
    """A result under a name or in a folder where nobody looks for it."""
    CONFLICT = "conflict"
    """Other numbers under the id of a finished trial."""
    IMPOSSIBLE = "impossible"
    """A result whose rows cannot be: they contradict its id, their own counts, or what its kind allows."""
    OTHER_WEIGHTS = "other-weights"
    """Weights that are not those that their trial left."""
    IN_FUTURE = "in-future"
    """A record of a time that has not come: the clock of its machine was wrong, or it was altered."""
    OTHER_DIGEST = "other-digest"
    """Made with other weights or data than the root has pinned under their name."""
    UNREADABLE_RECORD = "unreadable-record"
    """A failure, launch, study or pin that cannot be read."""
    DAMAGED_INDEX = "damaged-index"
    """The compacted files, or what names them; they can be made again."""
    WITHOUT_FILE = "without-file"
    """In the compacted index, but the trial's own file is gone: the trial is not done, its rows are not read."""
    WITHOUT_WEIGHTS = "without-weights"
    """Of a trial that made a source: the source's weights are gone."""
    MIXED = "mixed"
    """Of a trial that ran on several kinds of device, or by several versions of torch."""
    OLDER_NUMERICS = "older-numerics"
    """Made before numbers of its kind were changed on purpose: it is compared only with its like."""
    UNPLANNED = "unplanned"
    """A result that no planned trial asks for."""
    LEFTOVER_CHECKPOINT = "leftover-checkpoint"
    """Of a trial that is done."""
    DAMAGED_CHECKPOINT = "damaged-checkpoint"
    """A checkpoint that is passed over: its trial goes on from the one before it, or from its start."""
    STALE_TEMPORARY = "stale-temporary"
    """Left by a killed process."""

    @property
    def harmless(self) -> bool:
        """Information: nothing is wrong with any result."""
        return self in (
            Problem.MIXED,
            Problem.OLDER_NUMERICS,
            Problem.UNPLANNED,
            Problem.LEFTOVER_CHECKPOINT,
            Problem.DAMAGED_CHECKPOINT,
            Problem.STALE_TEMPORARY,
        )


class DamagedResult(DamagedFile):
    """A file of results that cannot be used; ``problem`` says in which way."""

    def __init__(
        self, problem: Problem, message: str, *, file: object = "", key: str = "", newer: bool = False
    ) -> None:
        """
        Args:
            file, key: as of every expected error.
            newer: whether a newer DeltaSweep wrote the file, which is then not damaged.
        """
        super().__init__(Code.NEWER_VERSION if newer else Code.DAMAGED_RESULT, message, file=file, key=key)
        self.problem = problem


def torn(path: str, why: str) -> DamagedResult:
    return DamagedResult(
        Problem.TORN,
        f"{path} is not a readable Parquet file ({why}); move it away and resume: its trial runs again",
        file=path,
    )


class Finding(NamedTuple):
    """One thing about one file."""

    problem: Problem
    key: str
    """The file, relative to the root."""
    advice: str
    """What is wrong, with the full path, and what to do."""
