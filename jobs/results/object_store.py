"""A results root in a bucket, accessed with obstore: ``s3://`` (S3 and compatible services) or ``gs://``."""

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import GCSStore, S3Store

from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.results.object_errors import explain, missing_bucket, reply_lost
from jobs.results.store import Store, ignores_conditions, is_hidden

_WRITER = "deltasweep-writer"
"""Object attribute that identifies the call that wrote it, to distinguish a lost reply from a lost race."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_CONDITIONAL_ATTEMPTS = 5
_ONE_REQUEST = 16 << 20
"""Larger objects take more time to send: a conditional PUT is one request, unlike an unconditional one."""
_SLOWEST = 1 << 20
"""Bytes per second that are sent at least."""


class Patience(NamedTuple):
    """How long failing requests are retried; pauses double from ``first_pause`` to ``longest_pause``, in seconds."""

    request_seconds: float = 120.0
    retries: int = 10
    total_seconds: float = 180.0
    first_pause: float = 0.1
    longest_pause: float = 15.0


class ObjectStore(Store):
    """A prefix in a bucket that supports conditional writes, as S3, GCS, R2, MinIO and others do.

    Credentials, region and endpoint come from each machine's own environment (``AWS_...``, ``GOOGLE_...``) or role and
    are never stored. An object is written atomically by one request, and is durable once the reply arrives; there are
    no temporary files. Responses 500 and 503, refused connections and timeouts are retried with growing pauses
    (``Patience``) before they become a ``StorageFailure``.

    Consoles and other programs mark folders by empty objects whose keys end with a slash. The client lists them without
    it, under keys that cannot be read; ``keys`` leaves them out.
    """

    def __init__(self, uri: str, patience: Patience = Patience()) -> None:  # noqa: B008  # a tuple, never changed
        scheme, bucket, prefix = _parts(uri)
        self.uri = f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else "")
        self._patience = patience
        self._bucket = _open(scheme, bucket, prefix, patience)

    def require_guarantees(self, key: str) -> None:
        self.require_held()
        ignored = []
        with self._explained():
            outdated = obstore.put(self._bucket, key, b"")
            obstore.put(self._bucket, key, b"changed")
            for condition, why in (
                ("create", "it creates an object that exists already (If-None-Match)"),
                (_version(outdated), "it replaces an object that has changed (If-Match)"),
            ):
                try:
                    obstore.put(self._bucket, key, b"again", mode=condition)  # type: ignore[arg-type]
                    ignored.append(why)
                except (AlreadyExistsError, PreconditionError):
                    pass
            obstore.delete(self._bucket, key)
        if ignored:
            raise ignores_conditions(self.uri, " and ".join(ignored))

    def create(self, key: str, data: bytes) -> bool:
        self.require_held()
        return self._put_if(key, data, "create")

    def replace(self, key: str, data: bytes, *, durable: bool = True) -> None:
        self.require_held()
        with self._explained():
            obstore.put(self._bucket, key, data)

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        if expected is None:
            return self.create(key, data)
        self.require_held()
        try:
            with self._explained():
                present = obstore.get(self._bucket, key)
                if bytes(present.bytes()) != expected:
                    return False
        except FileNotFoundError:
            return False
        return self._put_if(key, data, _version(present.meta))

    def read(self, key: str) -> bytes:
        with self._explained():
            return obstore.get(self._bucket, key).bytes().to_bytes()

    def read_within(self, key: str, most: int) -> bytes:
        with self._explained():
            found = obstore.get(self._bucket, key)
            self._require_small(key, found.meta["size"], most)
            return found.bytes().to_bytes()

    def sha256_within(self, key: str, most: int) -> str:
        hasher = hashlib.sha256()
        with self._explained():
            found = obstore.get(self._bucket, key)
            self._require_small(key, found.meta["size"], most)
            for part in found.stream():
                hasher.update(part)
        return hasher.hexdigest()

    def read_start(self, key: str, size: int) -> bytes:
        with self._explained():
            return obstore.get(self._bucket, key, options={"range": (0, size)}).bytes().to_bytes()

    def written_at(self, key: str) -> datetime:
        with self._explained():
            return obstore.head(self._bucket, key)["last_modified"]

    def keys(self, prefix: str) -> Iterator[str]:
        marker = ""  # an empty object that may be the marker of a folder
        with self._explained():
            for item in chain.from_iterable(obstore.list(self._bucket, prefix)):
                path = item["path"]
                if marker and not path.startswith(f"{marker}/") and self._stands(marker):
                    yield marker
                marker = ""
                if len(path) <= len(prefix) or is_hidden(path):
                    continue
                if item["size"]:
                    yield path
                else:
                    marker = path
            if marker and self._stands(marker):
                yield marker

    def delete(self, key: str) -> None:
        self.require_held()
        try:
            with self._explained():
                obstore.delete(self._bucket, key)
        except FileNotFoundError:
            return  # raised by GCS, not by S3

    def _stands(self, key: str) -> bool:
        return self._writer(key) is not None

    def _put_if(self, key: str, data: bytes, condition: object) -> bool:
        """Send a conditional PUT; repeat it if the reply was lost. The writer attribute tells whose object exists."""
        writer, until = uuid.uuid4().hex, time.monotonic() + self._patience.total_seconds
        bucket = self._bucket_for(len(data))
        failure: Exception
        for attempt in range(_CONDITIONAL_ATTEMPTS):
            try:
                obstore.put(bucket, key, data, mode=condition, attributes={_WRITER: writer})  # type: ignore[arg-type]
                return True
            except (AlreadyExistsError, PreconditionError) as error:
                failure = error
                present = self._writer(key)
                # S3 also responds like this while another conditional write is in flight, when no object may exist yet
                if present is not None or condition != "create":
                    return present == writer
            except (BaseError, FileNotFoundError) as error:
                failure = error
                if not reply_lost(error):
                    break
            if time.monotonic() > until:
                break
            time.sleep(min(self._patience.first_pause * 2**attempt, self._patience.longest_pause))
        raise explain(failure, self.uri) from failure

    def _bucket_for(self, size: int) -> S3Store | GCSStore:
        """Return a client that waits long enough for one request with ``size`` bytes."""
        if size <= _ONE_REQUEST:
            return self._bucket
        scheme, bucket, prefix = _parts(self.uri)
        seconds = self._patience.request_seconds + size / _SLOWEST
        return _open(scheme, bucket, prefix, self._patience._replace(request_seconds=seconds))

    def _writer(self, key: str) -> str | None:
        """Return the writer attribute of an existing object; None if there is no object."""
        try:
            with self._explained():
                return obstore.get(self._bucket, key, options={"head": True}).attributes.get(_WRITER, "")
        except FileNotFoundError:
            return None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Convert client errors to ``StorageFailure``; ``FileNotFoundError`` for a missing object is passed on."""
        try:
            yield
        except FileNotFoundError as error:
            if missing_bucket(error):
                raise explain(error, self.uri) from error
            raise
        except (BaseError, OSError) as error:
            if isinstance(error, StorageFailure):
                raise
            raise explain(error, self.uri) from error


def _version(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what identifies the version of an object in a condition of ``obstore.put``."""
    return {name: value for name in ("e_tag", "version") if (value := found[name]) is not None}


def _parts(uri: str) -> tuple[str, str, str]:
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if scheme not in ("s3", "gs") or not bucket or "//" in prefix:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            "expected a results root: a directory, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, without empty parts; "
            f"got {uri}. Fix: correct --results",
            file=uri,
            key="--results",
        )
    return scheme, bucket, prefix


def _open(scheme: str, bucket: str, prefix: str, patience: Patience) -> S3Store | GCSStore:
    """Create the client. Plain HTTP is allowed only if the environment sets an ``http://`` endpoint."""
    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    request, total = timedelta(seconds=patience.request_seconds), timedelta(seconds=patience.total_seconds)
    settings = {
        "prefix": prefix or None,
        "client_options": {"timeout": request, **({"allow_http": True} if plain else {})},
        "retry_config": {
            "max_retries": patience.retries,
            "retry_timeout": total,
            "backoff": {
                "init_backoff": timedelta(seconds=patience.first_pause),
                "max_backoff": timedelta(seconds=patience.longest_pause),
                "base": 2,
            },
        },
    }
    try:
        return S3Store(bucket, **settings) if scheme == "s3" else GCSStore(bucket, **settings)  # type: ignore[arg-type]
    except (BaseError, ValueError) as error:
        raise explain(error, f"{scheme}://{bucket}") from error
