"""Downloading a file once: mirrors in order, resumed, verified, and only then put in its place.

urllib and not a library: pooch and ``torch.hub`` do not resume, and huggingface_hub knows only its own hub.
"""

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from jobs import web
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData, Mistake, Place, StorageFailure

Progress = Callable[[int, int | None], None]

_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 20
_SLOWEST = 1_000
"""Bytes a second, on average over ``_PACE_SECONDS``: a mirror that is slower is left for the next."""
_PACE_SECONDS = 60.0
_MOST_UNSAID = 20 << 30
"""Bytes of a file of which neither anybody beforehand nor the mirror says how long it is."""
_BROKEN_CONNECTIONS = 10  # a mirror, as long as each of them brought something


class Expected(NamedTuple):
    """What is known of a file beforehand.

    An md5 finds accidents only; a sha256 finds forgeries too, and where there is one the md5 is not looked at.
    """

    sha256: str | None
    md5: str | None = None
    size: int | None = None

    @property
    def has_digest(self) -> bool:
        return self.sha256 is not None or self.md5 is not None

    def problem(self, path: Path) -> str | None:
        """How a file differs from what is expected of it; None when it does not."""
        if self.size is not None and (size := path.stat().st_size) != self.size:
            return f"must have {self.size:,} bytes and has {size:,}{' or more' if size > self.size else ''}"
        algorithm, digest = ("sha256", self.sha256) if self.sha256 is not None else ("md5", self.md5)
        if digest is not None and (found := _digest(path, algorithm)) != digest:
            return f"must have the {algorithm} {digest} and has {found}"
        return None


class _Unavailable(Exception):
    """A mirror does not give the file; the next one may."""


class _TooSlow(_Unavailable):
    """It would take for ever."""


def download(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str | None,
    md5: str | None = None,
    size: int | None = None,
    on_progress: Progress,
) -> None:
    """Put a file at ``target``, whole and verified, or leave what stood there.

    What has come is kept as ``TARGET.part`` and continued by the next call, if a digest is known by which
    the pieces can be held against each other. A target that is already as expected is not fetched again;
    one that is not is replaced. Of several processes one downloads and the others wait.

    Args:
        urls: http, https or file URLs of the same file, tried in order.
        sha256: its digest, or None where nobody has published it.
        md5: a weaker digest, for files whose sha256 is not known.
        size: in bytes.
        on_progress: called with the bytes that are here and, where known, the bytes in all.

    Raises:
        InvalidRequest: when a URL is of another kind.
        MissingData: when no mirror gives the file: no network, not found, cut off.
        DamagedFile: when what the mirrors give is another file.
        StorageFailure: when it cannot be written: disk full, folder not writable.
    """
    if unknown := [url for url in urls if not _is_url(url)]:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"files are downloaded from {', '.join(web.SCHEMES)} URLs in ASCII; given: {', '.join(unknown)}",
            file=unknown[0],
        )
    expected = Expected(sha256, md5, size)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if target.is_file() and expected.problem(target) is None:
                return
            _download(urls, target, expected, on_progress)


def _is_url(url: str) -> bool:
    try:
        return url.isascii() and urllib.parse.urlsplit(url).scheme in web.SCHEMES
    except ValueError:
        return False


def _download(urls: Sequence[str], target: Path, expected: Expected, on_progress: Progress) -> None:
    part = target.with_name(f"{target.name}.part")
    reasons: list[Mistake] = []
    for url in urls:
        if not expected.has_digest:
            part.unlink(missing_ok=True)
        try:
            problem = _get_expected(url, part, expected, on_progress)
        except _Unavailable as error:
            reasons.append(Mistake(Code.NO_DOWNLOAD, Place(url), str(error)))
            continue
        if problem is None:
            part.replace(target)
            return
        reasons.append(Mistake(Code.DAMAGED_DOWNLOAD, Place(url), f"another file: it {problem}"))
    message = f"{target.name} could not be downloaded to {target.parent}:\n" + "\n".join(
        f"- {reason.place.file}: {reason.message}" for reason in reasons
    )
    if any(reason.code is Code.DAMAGED_DOWNLOAD for reason in reasons):
        raise DamagedFile(
            Code.DAMAGED_DOWNLOAD,
            f"{message}\nNothing was kept. Name a mirror that has the original file",
            file=target,
            mistakes=reasons,
        )
    again = ": it goes on from there"
    if not expected.has_digest:  # what comes next could not be held against it
        part.unlink(missing_ok=True)
        again = " from the start"
    raise MissingData(
        Code.NO_DOWNLOAD,
        f"{message}\nCheck the network or name another mirror, and run it again{again}",
        file=target,
        mistakes=reasons,
    )


def _get_expected(url: str, part: Path, expected: Expected, on_progress: Progress) -> str | None:
    """Complete ``part`` from one mirror; a continued one that turns out wrong is begun anew once.

    Returns:
        What is wrong with the file that this mirror gives, which is then removed; None when nothing is.
    """
    continued = part.is_file() and part.stat().st_size > 0
    _get(url, part, expected, on_progress)
    if (problem := expected.problem(part)) is None:
        return None
    part.unlink()
    return _get_expected(url, part, expected, on_progress) if continued else problem


def _get(url: str, part: Path, expected: Expected, on_progress: Progress) -> None:
    """Append to ``part`` until it is as long as the mirror says, reconnecting while that brings something."""
    for _ in range(_BROKEN_CONNECTIONS):
        before = part.stat().st_size if part.is_file() else 0
        try:
            _get_once(url, part, before, expected, on_progress)
        except _TooSlow:
            raise
        except _Unavailable:
            if not part.is_file() or part.stat().st_size <= before:
                raise
        else:
            return
    raise _Unavailable(f"the connection broke {_BROKEN_CONNECTIONS} times")


def _get_once(url: str, part: Path, offset: int, expected: Expected, on_progress: Progress) -> None:
    response = _open(url, offset)
    if response is None:
        if expected.has_digest and expected.problem(part) is None:  # all was here already
            return
        part.unlink()
        _get_once(url, part, 0, expected, on_progress)
        return
    with response:
        if offset and not _continues(response, offset):
            _require_size(response, expected.size)
            offset = 0
        announced = _total(response, offset)
        total = announced if announced is not None else expected.size
        limit = next(size for size in (expected.size, announced, _MOST_UNSAID) if size is not None)
        _require_room(part, min(total or 0, limit), offset)
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            here = offset
            on_progress(here, total)
            for chunk in _chunks(response):
                file.write(chunk)
                here += len(chunk)
                on_progress(here, total)
                if here > limit:  # the rest is not waited for
                    break
            file.flush()
            os.fsync(file.fileno())
    if here > limit and expected.size is None:
        part.unlink()
        said = "it announced" if announced is not None else "are taken of a file whose size nobody says"
        raise _Unavailable(f"sends more than the {limit:,} bytes that {said}")
    if total is not None and here < min(total, limit):
        raise _Unavailable(f"cut off after {here:,} of {total:,} bytes")


def _open(url: str, offset: int) -> Any | None:
    """The mirror's answer from ``offset`` on; None when it has nothing there."""
    headers = {"User-Agent": "deltasweep", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        return web.opener().open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if offset and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        raise _Unavailable(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _Unavailable(f"cannot be reached ({error.reason})") from error
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: where a redirection leads
        raise _Unavailable(f"cannot be reached ({error or type(error).__name__})") from error


def _chunks(response: Any) -> Iterator[bytes]:
    """What comes, as it comes.

    Raises:
        _Unavailable: when the connection breaks, or it comes too slowly.
    """
    begun, came = time.monotonic(), 0
    while True:
        try:
            chunk = web.read(response, _CHUNK_BYTES, _TIMEOUT_SECONDS)
        except (OSError, http.client.HTTPException) as error:
            raise _Unavailable(f"the connection broke ({error or type(error).__name__})") from error
        if not chunk:
            return
        yield chunk
        came += len(chunk)
        if (passed := time.monotonic() - begun) > _PACE_SECONDS:
            if came < _SLOWEST * passed:
                raise _TooSlow(f"sends {came / passed:,.0f} bytes a second; at least {_SLOWEST:,} are waited for")
            begun, came = time.monotonic(), 0


def _continues(response: Any, offset: int) -> bool:
    """Whether an answer is the rest of the file and not the whole of it."""
    partial = response.status == http.HTTPStatus.PARTIAL_CONTENT
    return partial and str(response.headers.get("Content-Range", "")).startswith(f"bytes {offset}-")


def _total(response: Any, offset: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return offset + int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _require_size(response: Any, size: int | None) -> None:
    """What has come is not thrown away for an answer that cannot be the file: a login page of the network, say."""
    if size is not None and (found := _total(response, 0)) is not None and found != size:
        raise _Unavailable(f"answers with {found:,} bytes instead of {size:,}")


def _require_room(part: Path, total: int, offset: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total - offset > free:
        raise StorageFailure(
            Code.STORAGE,
            f"{part.stem} needs {total - offset:,} more bytes and the disk of {part.parent} has {free:,} free; "
            "make room there, or set $DELTASWEEP_HOME to a folder on a larger disk",
            file=part.with_name(part.stem),
        )


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Say of an error of this machine's disk which file it hit."""
    try:
        yield
    except StorageFailure:
        raise
    except OSError as error:
        raise StorageFailure(
            Code.STORAGE,
            f"{target} cannot be written ({error.strerror or error}); make room or make the folder writable, or set "
            "$DELTASWEEP_HOME to another one",
            file=target,
        ) from error


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
