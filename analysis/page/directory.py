"""The directory of a report, checked before anything is read, drawn or created."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.results import LocalStore, Store
from jobs.results.opening import is_address
from jobs.system.files import NotAFile, words

_OWN = "report"
"""The folder of a results root that is reserved for the report; all others are for results."""

_RECORD = "report-files.json"
"""The names of the files of a report, by which the next one removes those that it does not make."""


def report_directory(store: Store, out: str | Path | None) -> Path:
    """Return ``out``, or the report folder of the root, after testing that it can be created and written.

    The test leaves nothing behind.

    Raises:
        InvalidRequest: when it is not a directory, is below a file or among the results, or cannot be written.
    """
    directory = _named(store, out)
    standing = next(place for place in (directory, *directory.parents) if os.path.lexists(place))
    if not standing.is_dir():
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected a directory for the report; {standing} is not one, so {directory} cannot be created. "
            "Fix: name another with --out",
            file=standing,
            key="--out",
        )
    _require_writable(directory)
    return directory


def _require_no_link(directory: Path, store: Store) -> None:
    """Within a results root, nothing is written through a link."""
    if isinstance(store, LocalStore) and directory.is_relative_to(store.directory):
        inside = [directory, *directory.parents]
        for place in inside[: inside.index(store.directory)]:
            if place.is_symlink():
                raise InvalidRequest(
                    Code.WRONG_PLACE,
                    f"expected a directory in the results root for the report; {place} is a link, and links in a root "
                    "are not followed. Fix: remove it, or name a directory outside the root with --out",
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
            f"expected a writable directory for the report; {directory} is not writable ({error.strerror}). "
            "Fix: change its permissions, or name another with --out",
            file=directory,
            key="--out",
        ) from error
    finally:
        for place in missing:
            with suppress(OSError):  # not created, or in use by others since
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
            f"expected a directory on this machine for the report; got --out {str(out)!r}",
            file=out,
            key="--out",
        )
    try:
        directory = Path(out).expanduser().absolute()
    except RuntimeError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected the home of a user of this machine after ~ in --out; got {out} ({error})",
            file=out,
            key="--out",
        ) from error
    _require_no_link(directory, store)
    root = _real(store.directory) if isinstance(store, LocalStore) else None
    if root is not None and _real(directory).is_relative_to(root) and not _is_own(_real(directory), root):
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected the report in {root / _OWN}, the folder without results, or outside the results root; got --out "
            f"{directory}. Fix: omit --out, or name a directory outside the root",
            file=directory,
            key="--out",
        )
    return directory


def _real(path: Path) -> Path:
    """Resolve links in a path; a path with circular links is returned as it is (``Path.resolve`` raises)."""
    return Path(os.path.realpath(path))


def _is_own(directory: Path, root: Path) -> bool:
    return directory.relative_to(root).parts[:1] == (_OWN,)


@contextmanager
def written_into(directory: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files are then moved into the directory, in place of those of an older report.

    Each file is replaced atomically; files of the older report that the new one does not have are removed. Anything in
    the directory that is not a regular file is neither followed nor replaced. Failures are reported as one error.

    Raises:
        StorageFailure: with the file and the reason.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=directory, prefix=".report-") as folder:
            yield Path(folder)
            files = sorted(Path(folder).iterdir(), key=lambda file: file.suffix == ".html")  # the page last
            names = sorted(file.name for file in files)
            (record := Path(folder) / _RECORD).write_text(json.dumps(names, indent=0), encoding="utf-8")
            for file in (*files, record):
                target = directory / file.name
                if os.path.lexists(target) and not stat.S_ISREG(mode := target.lstat().st_mode):
                    raise NotAFile(target, words(mode))
            for file in files:
                file.replace(directory / file.name)
            for file in _recorded(directory):
                if file.name not in names:
                    file.unlink()
            record.replace(directory / _RECORD)
    except OSError as error:
        if isinstance(error, StorageFailure):
            raise
        raise StorageFailure(
            Code.WRONG_PLACE if isinstance(error, NotAFile) else Code.STORAGE,
            f"the report cannot be written to {directory} ({error}); it is incomplete. "
            "Fix: remove the cause or name another directory with --out, then repeat",
            file=error.path if isinstance(error, NotAFile) else directory,
            key="--out",
        ) from error


def _recorded(directory: Path) -> list[Path]:
    """Return the regular files that the record of an older report names; none without a record that can be read."""
    try:
        names = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return []
    if not isinstance(names, list):
        return []
    return [file for file in directory.iterdir() if file.name in names and stat.S_ISREG(file.lstat().st_mode)]
