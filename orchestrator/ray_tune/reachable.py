"""Checks whether a cluster responds at an address, within seconds. Ray itself would wait for minutes."""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.errors import Code, InvalidRequest

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
_FIRST_QUESTION = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""The first request of Ray's own client."""
_OTHER_SERVER = "Received http2 header with status"
"""gRPC's error message for an HTTP/2 server without gRPC."""
_HOST_AND_PORT = re.compile(r"(?P<host>[^\s/:@]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})")


def require_ray(address: str) -> None:
    """Check that a cluster's head node responds at HOST:PORT. ``local``, which starts Ray, is always valid.

    Raises:
        InvalidRequest: If the address has another form, or no Ray responds there.
    """
    if address == "local":
        return
    if address.startswith(("http://", "https://")):
        raise _wrong(
            address,
            f"expected a cluster's address, HOST:6379; got the URL {address}. Fix: add --submit to use a dashboard",
        )
    if address.startswith("ray://"):
        raise _wrong(address, f"expected a cluster's address, HOST:6379; got {address}: Ray Client cannot run launches")
    target = _target(address)
    match = _HOST_AND_PORT.fullmatch(target)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise _wrong(address, f"expected a cluster's address, HOST:PORT; got {address!r}. Fix: use HOST:6379 or auto")
    _connect(address, match["host"].strip("[]"), int(match["port"]))
    if os.environ.get("RAY_USE_TLS", "0") != "1":  # with TLS, Ray's own handshake reports errors
        _require_grpc(address, target)


def require_same_ray(address: str) -> None:
    """Compare a cluster's versions of Ray and Python with this process's. Requires that it responds (``require_ray``).

    Raises:
        InvalidRequest: If they differ, or the cluster rejects this machine's token.
    """
    import ray
    from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
    from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
    from ray._private.utils import check_version_info
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray's stub lacks it

    if address == "local":
        return
    # the same check as in ray.init, but before the launch writes its records
    with of_cluster(address):
        try:
            metadata = GcsClient(address=_target(address)).internal_kv_get(
                CLUSTER_METADATA_KEY, namespace=KV_NAMESPACE_CLUSTER, timeout=ANSWER_SECONDS
            )
        except ray.exceptions.RpcError as error:
            raise _silent(address, f"it does not report its version ({error})") from error
        if metadata:
            check_version_info(json.loads(metadata), "this machine")


@contextmanager
def of_cluster(address: str) -> Iterator[None]:
    """Convert Ray's errors about a cluster that rejects this process to DeltaSweep errors."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise InvalidRequest(
            Code.NO_CLUSTER,
            f"the cluster at {address} rejected this machine's token. Fix: set RAY_AUTH_MODE=token and copy the "
            f"cluster's token to ~/.ray/auth_token ({error})",
            file=address,
            key="--address",
        ) from error
    except RuntimeError as error:
        if not str(error).startswith("Version mismatch"):
            raise
        raise InvalidRequest(
            Code.VERSIONS_DIFFER,
            f"expected the cluster's versions of Ray and Python. {error}",
            file=address,
            key="--address",
        ) from error


def require_dashboard(address: str) -> None:
    """Check that a server responds at http://HOST[:PORT] or https://, even if only with a request for a token.

    Raises:
        InvalidRequest: If no server responds.
    """
    import requests

    try:
        requests.get(f"{address.rstrip('/')}/api/version", timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
    except (requests.RequestException, ValueError) as error:
        raise no_dashboard(address, error) from error


def no_dashboard(address: str, error: Exception) -> InvalidRequest:
    """Return the error that no dashboard accepts jobs at an address."""
    return InvalidRequest(
        Code.NO_CLUSTER,
        f"no Ray dashboard accepts jobs at {address}: {error}. Fix: check that `ray dashboard cluster.yaml` is running",
        file=address,
        key="--address",
    )


def _target(address: str) -> str:
    """Return HOST:PORT. ``auto`` is the cluster that was last started on this machine."""
    if address != "auto":
        return address
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        return str(canonicalize_bootstrap_address_or_die(address))
    except ConnectionError as error:
        raise _silent(address, "no Ray runs on this machine") from error


def _connect(address: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise _silent(address, error.strerror or str(error) or "no connection") from error
    except UnicodeError as error:
        raise _wrong(address, f"expected a cluster's address, HOST:PORT; got {address!r} ({error})") from error


def _require_grpc(address: str, target: str) -> None:
    import grpc

    with grpc.insecure_channel(target) as channel:
        ask = channel.unary_unary(_FIRST_QUESTION)
        try:
            ask(b"", timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            # other errors still come from Ray, for example if it requires a token or has dropped this request
            silent = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            if silent or _OTHER_SERVER in str(error.details()):
                raise _silent(address, f"the server there is not Ray ({error.details()})") from error


def _silent(address: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        Code.NO_CLUSTER,
        f"no Ray cluster responds at {address}: {why}. Fix: check that it is running and that the address is its head "
        "node's, HOST:6379; without --address and $RAY_ADDRESS, Ray starts on this machine",
        file=address,
        key="--address",
    )


def _wrong(address: str, message: str) -> InvalidRequest:
    return InvalidRequest(Code.WRONG_VALUE, message, file=address, key="--address")
