"""Whether anything answers at an address, found out within seconds: Ray itself waits for minutes."""

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
"""What Ray's own client begins with."""
_OTHER_SERVER = "Received http2 header with status"
"""What gRPC says of a server that speaks HTTP/2 and no gRPC."""
_HOST_AND_PORT = re.compile(r"(?P<host>[^\s/:@]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})")


def require_ray(address: str) -> None:
    """Find a cluster's head at its own address, HOST:PORT; ``local``, which starts one, is always right.

    Raises:
        InvalidRequest: when the address has another form, or no Ray answers there.
    """
    if address == "local":
        return
    if address.startswith(("http://", "https://")):
        raise _wrong(
            address, f"{address} is a dashboard: launch there with --submit. A cluster's own address is HOST:6379"
        )
    if address.startswith("ray://"):
        raise _wrong(
            address, f"{address} is of Ray Client, which cannot run a launch. A cluster's own address is HOST:6379"
        )
    target = _target(address)
    found = _HOST_AND_PORT.fullmatch(target)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise _wrong(address, f"expected a cluster's address, HOST:PORT; got {address!r}. Fix: HOST:6379, or auto")
    _connect(address, found["host"].strip("[]"), int(found["port"]))
    if os.environ.get("RAY_USE_TLS", "0") != "1":  # then Ray's own handshake says what is wrong
        _require_grpc(address, target)


def require_same_ray(address: str) -> None:
    """Compare the Ray and Python of a cluster at its own address, which answers (``require_ray``), with this process's.

    Raises:
        InvalidRequest: when they differ, or the cluster does not take this machine's token.
    """
    import ray
    from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
    from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
    from ray._private.utils import check_version_info
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray's stub lacks it

    if address == "local":
        return
    # as ray.init does, which a launch comes to only after it has written its records
    with of_cluster(address):
        try:
            told = GcsClient(address=_target(address)).internal_kv_get(
                CLUSTER_METADATA_KEY, namespace=KV_NAMESPACE_CLUSTER, timeout=ANSWER_SECONDS
            )
        except ray.exceptions.RpcError as error:
            raise _silent(address, f"it does not say its version ({error})") from error
        if told:
            check_version_info(json.loads(told), "this machine")


@contextmanager
def of_cluster(address: str) -> Iterator[None]:
    """What Ray says of a cluster that does not take this process, as errors of ours."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise InvalidRequest(
            Code.NO_CLUSTER,
            f"the cluster at {address} did not take this machine's token; set RAY_AUTH_MODE=token and keep the "
            f"cluster's token in ~/.ray/auth_token ({error})",
            file=address,
            key="--address",
        ) from error
    except RuntimeError as error:
        if not str(error).startswith("Version mismatch"):
            raise
        raise InvalidRequest(
            Code.VERSIONS_DIFFER,
            f"the driver needs the cluster's Ray and Python. {error}",
            file=address,
            key="--address",
        ) from error


def require_dashboard(address: str) -> None:
    """Find a server at http://HOST[:PORT] or https://: whatever it answers, also that a token is wanted.

    Raises:
        InvalidRequest: when none answers.
    """
    import requests

    try:
        requests.get(f"{address.rstrip('/')}/api/version", timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
    except (requests.RequestException, ValueError) as error:
        raise no_dashboard(address, error) from error


def no_dashboard(address: str, error: Exception) -> InvalidRequest:
    """That no dashboard takes jobs at an address."""
    return InvalidRequest(
        Code.NO_CLUSTER,
        f"no Ray dashboard takes jobs at {address}: {error}. Is `ray dashboard cluster.yaml` running?",
        file=address,
        key="--address",
    )


def _target(address: str) -> str:
    """HOST:PORT, also of ``auto``: the cluster that was last started on this machine."""
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
            # a Ray that wants a token, or knows the question no more, answers as well
            silent = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            if silent or _OTHER_SERVER in str(error.details()):
                raise _silent(address, f"what listens there is no Ray ({error.details()})") from error


def _silent(address: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        Code.NO_CLUSTER,
        f"no Ray cluster answers at {address}: {why}. Fix: look whether it runs and the address is its head's, "
        "HOST:6379; without --address and $RAY_ADDRESS, Ray is started here",
        file=address,
        key="--address",
    )


def _wrong(address: str, message: str) -> InvalidRequest:
    return InvalidRequest(Code.WRONG_VALUE, message, file=address, key="--address")
