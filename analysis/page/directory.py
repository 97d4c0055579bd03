"""The directory that a report goes into: checked before anything is read, drawn or made."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.results import LocalStore, Store

_OWN = "report"
"""The folder of a results root that is the report's; all others are those of results."""


def report_directory(store: Store, out: str | Path | None) -> Path:
    """The directory named, or that of the root. It is tried whether it can be made and written; nothing stays of that.

    Raises:
        InvalidRequest: when it is no directory, lies below a file or among the results, or cannot be written.
    """
    directory = _named(store, out)
    standing = next(place for place in (directory, *directory.parents) if os.path.lexists(place))
    if not standing.is_dir():
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"the report goes into a directory; {standing} is none, so {directory} cannot be one. "
            "Name another with --out",
            file=standing,
            key="--out",
        )
    _require_writable(directory)
    return directory


def _require_writable(directory: Path) -> None:
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"the report goes into a directory that can be written; {directory} cannot ({error.strerror}). "
            "Mend its permissions, or name another with --out",
            file=directory,
            key="--out",
        ) from error
    finally:
        for place in missing:
            with suppress(OSError):  # never made, or somebody else's by now
                place.rmdir()


def _named(store: Store, out: str | Path | None) -> Path:
    if out is None:
        here = Path.cwd() / f"{store.uri.rpartition('/')[2]}-{_OWN}"
        return store.directory / _OWN if isinstance(store, LocalStore) else here
    if not str(out).strip() or "://" in str(out):
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"the report goes into a directory of this machine; --out is {str(out)!r}",
            file=out,
            key="--out",
        )
    try:
        directory = Path(out).expanduser().absolute()
    except RuntimeError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"--out that begins with ~ lies in the home of a user of this machine; {out} does not ({error})",
            file=out,
            key="--out",
        ) from error
    root = store.directory.resolve() if isinstance(store, LocalStore) else None
    if root is not None and directory.resolve().is_relative_to(root) and not _is_own(directory.resolve(), root):
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"in a results root the report goes into {root / _OWN}, where no results lie; --out is {directory}. "
            "Leave --out away, or name a directory outside of the root",
            file=directory,
            key="--out",
        )
    return directory


def _is_own(directory: Path, root: Path) -> bool:
    return directory.relative_to(root).parts[:1] == (_OWN,)


@contextmanager
def written_into(directory: Path) -> Iterator[None]:
    """Make the directory; what fails while it is being filled is one message.

    Raises:
        StorageFailure: with the file and why.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if isinstance(error, StorageFailure):
            raise
        raise StorageFailure(
            Code.STORAGE,
            f"the report cannot be written into {directory} ({error}); it is not complete. "
            "Mend the cause or name another directory with --out, then repeat",
            file=directory,
            key="--out",
        ) from error
