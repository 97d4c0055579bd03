"""Resumable, verified downloads from a list of mirrors; a file is moved into place only after verification.

This uses urllib because pooch and ``torch.hub`` cannot resume downloads, and huggingface_hub supports only its own hub.
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

from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData, Mistake, Place, StorageFailure
from jobs.system import web

Progress = Callable[[int, int | None], None]

_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 20
_SLOWEST = 1_000
"""Minimum bytes per second, averaged over ``_PACE_SECONDS``; a slower mirror is abandoned for the next."""
_PACE_SECONDS = 60.0
_MOST_UNSAID = 20 << 30
"""Maximum bytes of a file whose size is given neither by the caller nor by the mirror."""
_BROKEN_CONNECTIONS = 10  # per mirror, provided that each connection transferred some bytes


class Expected(NamedTuple):
    """The expected digest and size of a file.

    md5 detects only accidental changes; sha256 also detects tampering. If a sha256 is given, the md5 is ignored.
    """

    sha256: str | None
    md5: str | None = None
    size: int | None = None

    @property
    def has_digest(self) -> bool:
        return self.sha256 is not None or self.md5 is not None

    def problem(self, path: Path) -> str | None:
        """Describe how a file differs from the expected one; None if it does not."""
        if self.size is not None and (size := path.stat().st_size) != self.size:
            return f"should have {self.size:,} bytes but has {size:,}{' or more' if size > self.size else ''}"
        algorithm, digest = ("sha256", self.sha256) if self.sha256 is not None else ("md5", self.md5)
        if digest is not None and (found := _digest(path, algorithm)) != digest:
            return f"should have the {algorithm} {digest} but has {found}"
        return None


class _Unavailable(Exception):
    """A mirror does not provide the file; the next one may."""


class _TooSlow(_Unavailable):
    """A mirror is too slow."""


def download(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str | None,
    md5: str | None = None,
    size: int | None = None,
    on_progress: Progress,
) -> None:
    """Download a file to ``target``, complete and verified; on failure an existing target is unchanged.

    A partial download is kept as ``TARGET.part`` and resumed by the next call, provided that the expected digest is
    known, so that the assembled file can be verified. A target that has the expected digest is not downloaded again;
    any other is replaced. If several processes call this, one downloads and the others wait.

    Args:
        urls: http, https or file URLs of the same file, tried in order.
        target: the path of the file.
        sha256: its digest, or None if it is not published.
        md5: a weaker digest, for files whose sha256 is not known.
        size: the file's size in bytes.
        on_progress: called with the number of bytes downloaded and, where known, the total.

    Raises:
        InvalidRequest: if a URL has another scheme.
        MissingData: if no mirror provides the file: no network, not found, connection lost.
        DamagedFile: if the mirrors provide a different file.
        StorageFailure: if it cannot be written: disk full, folder not writable.
    """
    if unknown := [url for url in urls if not _is_url(url)]:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected {', '.join(web.SCHEMES)} URLs in ASCII to download from; got {', '.join(unknown)}",
            file=unknown[0],
        )
    expected = Expected(sha256, md5, size)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if expected.has_digest and target.is_file() and expected.problem(target) is None:
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
        reasons.append(Mistake(Code.DAMAGED_DOWNLOAD, Place(url), f"different file: it {problem}"))
    message = f"{target.name} could not be downloaded to {target.parent}:\n" + "\n".join(
        f"- {reason.place.file}: {reason.message}" for reason in reasons
    )
    if any(reason.code is Code.DAMAGED_DOWNLOAD for reason in reasons):
        raise DamagedFile(
            Code.DAMAGED_DOWNLOAD,
            f"{message}\nNothing was kept. Fix: specify a mirror that has the original file",
            file=target,
            mistakes=reasons,
        )
    again = " to resume the download"
    if not expected.has_digest:  # a resumed file could not be verified
        part.unlink(missing_ok=True)
        again = " to download it from the start"
    raise MissingData(
        Code.NO_DOWNLOAD,
        f"{message}\nFix: check the network or specify another mirror, and run the command again{again}",
        file=target,
        mistakes=reasons,
    )


def _get_expected(url: str, part: Path, expected: Expected, on_progress: Progress) -> str | None:
    """Complete ``part`` from one mirror; if a resumed file fails verification, restart it once.

    Returns:
        A description of what is wrong with this mirror's file, which is then removed; None if nothing is wrong.
    """
    continued = part.is_file() and part.stat().st_size > 0
    _get(url, part, expected, on_progress)
    if (problem := expected.problem(part)) is None:
        return None
    part.unlink()
    return _get_expected(url, part, expected, on_progress) if continued else problem


def _get(url: str, part: Path, expected: Expected, on_progress: Progress) -> None:
    """Append to ``part`` until it has the announced size; reconnect as long as each connection transfers bytes."""
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
        if expected.has_digest and expected.problem(part) is None:  # the partial file was already complete
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
                if here > limit:
                    break
            file.flush()
            os.fsync(file.fileno())
    if here > limit and expected.size is None:
        part.unlink()
        limited_by = "it announced" if announced is not None else "are allowed for a file of unknown size"
        raise _Unavailable(f"sends more than the {limit:,} bytes that {limited_by}")
    if total is not None and here < min(total, limit):
        raise _Unavailable(f"connection lost after {here:,} of {total:,} bytes")


def _open(url: str, offset: int) -> Any | None:
    """Return the mirror's response starting at ``offset``; None if the mirror has no bytes there."""
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
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: an invalid redirect target
        raise _Unavailable(f"cannot be reached ({error or type(error).__name__})") from error


def _chunks(response: Any) -> Iterator[bytes]:
    """Yield the bytes of a response as they arrive.

    Raises:
        _Unavailable: if the connection breaks or is too slow.
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
                raise _TooSlow(f"sends {came / passed:,.0f} bytes per second; the minimum is {_SLOWEST:,}")
            begun, came = time.monotonic(), 0


def _continues(response: Any, offset: int) -> bool:
    """Return whether a response contains the rest of the file rather than all of it."""
    partial = response.status == http.HTTPStatus.PARTIAL_CONTENT
    return partial and str(response.headers.get("Content-Range", "")).startswith(f"bytes {offset}-")


def _total(response: Any, offset: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return offset + int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _require_size(response: Any, size: int | None) -> None:
    """Refuse a response that cannot be the file, such as a login page; a partial download is kept."""
    if size is not None and (found := _total(response, 0)) is not None and found != size:
        raise _Unavailable(f"responds with {found:,} bytes instead of {size:,}")


def _require_room(part: Path, total: int, offset: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total - offset > free:
        raise StorageFailure(
            Code.STORAGE,
            f"{part.stem} needs {total - offset:,} more bytes, and the disk of {part.parent} has {free:,} free. "
            "Fix: free some space, or set $DELTASWEEP_HOME to a folder on a larger disk",
            file=part.with_name(part.stem),
        )


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Convert errors of the local disk to a ``StorageFailure`` that names the file."""
    try:
        yield
    except StorageFailure:
        raise
    except OSError as error:
        raise StorageFailure(
            Code.STORAGE,
            f"{target} cannot be written ({error.strerror or error}). Fix: free some space, make the folder writable, "
            "or set $DELTASWEEP_HOME to another folder",
            file=target,
        ) from error


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
