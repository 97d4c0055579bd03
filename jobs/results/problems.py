"""Problems of files in a results root, and how they are reported. No torch."""

from enum import StrEnum
from typing import NamedTuple

from jobs.errors import Code, DamagedFile


class Problem(StrEnum):
    """A problem, or other noteworthy property, of a file in a results root."""

    TORN = "torn"
    """Not a readable file of its format: truncated, altered, or something else."""
    WRONG_VERSION = "wrong-version"
    """A result or study that this DeltaSweep cannot read: a newer version wrote it, or no release did."""
    WRONG_CONTENT = "wrong-content"
    """Readable, but not the rows of the trial in its name."""
    DUPLICATE_ROWS = "duplicate-rows"
    """Two rows of a trial with the same number (such as the epoch)."""
    FOREIGN = "foreign"
    """Not created by DeltaSweep: an unexpected name, a file in place of a folder, a link, a named pipe."""
    MISNAMED = "misnamed"
    """A result under a name or in a folder where it is never read; a record, pin or log under the name of another."""
    CONFLICT = "conflict"
    """Different numbers for a finished trial."""
    IMPOSSIBLE = "impossible"
    """A result with impossible rows: they contradict its id, their own counts, or the rules of its kind."""
    OTHER_WEIGHTS = "other-weights"
    """Weights that differ from those that their trial produced."""
    IN_FUTURE = "in-future"
    """A record with a time in the future: its machine's clock was wrong, or the record was altered."""
    OTHER_DIGEST = "other-digest"
    """Computed with other weights or data than those pinned in the root under the same name."""
    UNREADABLE_RECORD = "unreadable-record"
    """A failure, launch, study or pin that cannot be read."""
    DAMAGED_INDEX = "damaged-index"
    """The compacted files, or the file that refers to them; they can be regenerated."""
    WITHOUT_FILE = "without-file"
    """In the compacted index, but the trial's own file is missing: the trial is not done, and its rows are ignored."""
    WITHOUT_WEIGHTS = "without-weights"
    """The result of a trial that trained a source whose weights are missing."""
    MIXED = "mixed"
    """A trial that ran on several device kinds, or with several versions of torch or torchvision."""
    UNKNOWN_KIND = "unknown-kind"
    """A kind of trial that no installed package provides: it cannot be checked and is left unchanged."""
    OLDER_NUMERICS = "older-numerics"
    """Computed before the numbers of its kind were changed deliberately; comparable only within the same numerics."""
    UNPLANNED = "unplanned"
    """A result that is not part of any study."""
    LEFTOVER_CHECKPOINT = "leftover-checkpoint"
    """A checkpoint of a trial that is done."""
    DAMAGED_CHECKPOINT = "damaged-checkpoint"
    """A damaged checkpoint, which is ignored: its trial resumes from the previous one, or from the start."""
    STALE_TEMPORARY = "stale-temporary"
    """A temporary file left by a killed process."""

    @property
    def harmless(self) -> bool:
        """Whether this is for information only: no result is affected."""
        return self in (
            Problem.MIXED,
            Problem.UNKNOWN_KIND,
            Problem.OLDER_NUMERICS,
            Problem.UNPLANNED,
            Problem.LEFTOVER_CHECKPOINT,
            Problem.DAMAGED_CHECKPOINT,
            Problem.STALE_TEMPORARY,
        )


class DamagedResult(DamagedFile):
    """A results file that cannot be used because of ``problem``."""

    def __init__(
        self, problem: Problem, message: str, *, file: object = "", key: str = "", newer: bool = False
    ) -> None:
        """Create the error for a file with a problem.

        Args:
            problem: what is wrong with the file.
            file, key: as in ``DeltaSweepError``.
            newer: whether a newer DeltaSweep wrote the file, so that it is not damaged.
        """
        super().__init__(Code.NEWER_VERSION if newer else Code.DAMAGED_RESULT, message, file=file, key=key)
        self.problem = problem


def torn(path: str, why: str) -> DamagedResult:
    return DamagedResult(
        Problem.TORN,
        f"{path} is not a readable Parquet file ({why}). Fix: move it away and resume; its trial runs again",
        file=path,
    )


class Finding(NamedTuple):
    """A problem of one file."""

    problem: Problem
    key: str
    """The path of the file, relative to the root."""
    advice: str
    """A description of the problem, with the full path and the fix."""
