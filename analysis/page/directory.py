"""The directory that a report goes into: checked before anything is read, drawn or made."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.files import NotAFile, words
from jobs.results import LocalStore, Store
from jobs.results.opening import is_address

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


def _require_no_link(directory: Path, store: Store) -> None:
    """In a results root nothing is written through a link."""
    if isinstance(store, LocalStore) and directory.is_relative_to(store.directory):
        inside = [directory, *directory.parents]
        for place in inside[: inside.index(store.directory)]:
            if place.is_symlink():
                raise InvalidRequest(
                    Code.WRONG_PLACE,
                    f"expected a directory in the results root for the report; {place} is a link, and a root follows "
                    "none. Fix: remove it, or name a directory outside of the root with --out",
                    file=place,
                    key="--out",
                )


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
            "Fix: change its permissions, or name another with --out",
            file=directory,
            key="--out",
        ) from error
    finally:
        for place in missing:
            with suppress(OSError):  # never made, or somebody else's by now
                place.rmdir()


def _named(store: Store, out: str | Path | None) -> Path:
    if out is None:
        if not isinstance(store, LocalStore):
            return Path.cwd() / f"{store.uri.rpartition('/')[2]}-{_OWN}"
        _require_no_link(store.directory / _OWN, store)
        return store.directory / _OWN
    if not str(out).strip() or is_address(str(out)):
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
    _require_no_link(directory, store)
    root = _real(store.directory) if isinstance(store, LocalStore) else None
    if root is not None and _real(directory).is_relative_to(root) and not _is_own(_real(directory), root):
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"in a results root the report goes into {root / _OWN}, where no results lie; --out is {directory}. "
            "Leave --out away, or name a directory outside of the root",
            file=directory,
            key="--out",
        )
    return directory


def _real(path: Path) -> Path:
    """Where a path leads; one that links lead round in a circle is itself (``Path.resolve`` raises)."""
    return Path(os.path.realpath(path))


def _is_own(directory: Path, root: Path) -> bool:
    return directory.relative_to(root).parts[:1] == (_OWN,)


@contextmanager
def written_into(directory: Path) -> Iterator[Path]:
    """A folder to be filled, whose files are then put into the directory, each whole, over those of an older report.

    What is no file there is not written through, nor replaced. What fails is one message.

    Raises:
        StorageFailure: with the file and why.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=directory, prefix=".report-") as folder:
            yield Path(folder)
            files = sorted(Path(folder).iterdir(), key=lambda file: file.suffix == ".html")  # the page last
            for file in files:
                target = directory / file.name
                if os.path.lexists(target) and not stat.S_ISREG(mode := target.lstat().st_mode):
                    raise NotAFile(target, words(mode))
            for file in files:
                file.replace(directory / file.name)
    except OSError as error:
        if isinstance(error, StorageFailure):
            raise
        raise StorageFailure(
            Code.WRONG_PLACE if isinstance(error, NotAFile) else Code.STORAGE,
            f"the report cannot be written into {directory} ({error}); it is not complete. "
            "Fix: remove the cause or name another directory with --out, then repeat",
            file=error.path if isinstance(error, NotAFile) else directory,
            key="--out",
        ) from error
