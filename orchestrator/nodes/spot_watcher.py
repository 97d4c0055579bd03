"""``python -m orchestrator.nodes.spot_watcher``: wait for a spot machine's preemption notice, then drain its Ray node.

AWS gives two minutes' notice in the instance metadata (IMDSv2): ``/latest/meta-data/spot/instance-action`` returns 404
until then. Google Cloud sets ``/computeMetadata/v1/instance/preempted`` to TRUE and gives 30 seconds. After
``ray drain-node``, Ray places nothing new on the node, and running trials save and exit
(``orchestrator.ray_tune.stop_signal``).
"""

import argparse
import http.client
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import NamedTuple

from jobs.errors import Code, DeltaSweepError
from jobs.system import web
from jobs.system.printable import printable
from orchestrator.nodes.supervisor import announce_leaving
from orchestrator.process.streams import dependable

POLL_SECONDS = 5.0
"""The interval that AWS recommends. It costs up to 5 s of the 120 s notice."""
_REQUEST_SECONDS = 2.0
_MOST_BYTES = 65_536
"""Maximum size of a response; a notice has about a hundred bytes."""
_SHOWN = 200
"""Maximum number of characters of an unexpected response that are logged."""
_TOKEN_TTL_SECONDS = 21_600
_ANSWER_SECONDS = 10.0
"""Time for the GCS to answer."""
_DRAIN_SECONDS = 40.0
"""Time for one attempt to drain, so that a GCS which hangs leaves time for another."""
_PAUSE_SECONDS = 2.0
"""Pause between two attempts."""
_AFTERWARDS_SECONDS = 600.0
"""Time to sleep after draining. The machine is gone before it has passed."""


class NoMetadata(DeltaSweepError):
    """The metadata server does not respond, or not like that of a spot machine."""

    def __init__(self, url: str, message: str, fault: str | None = None) -> None:
        """
        Args:
            fault: Kind of fault, for messages that differ each time. By default the message.
        """
        super().__init__(Code.INTERNAL, message, file=url)
        self.fault = fault or message


class Cloud(NamedTuple):
    """How a cloud announces preemption, and the time that is left then."""

    notice: Callable[[str], str | None]
    """Returns the notice at a metadata server's address, or None if there is none."""
    server: str
    deadline_seconds: int
    """Seconds from the notice to termination, minus the time to detect it and inform Ray."""


def aws_notice(server: str) -> str | None:
    """Return the notice in ``spot/instance-action`` (``{"action": "terminate", "time": ...}``), or None without one.

    Every call requests a new session token (IMDSv2), because with an expired token a notice would be missed.
    """
    text = _ask(f"{server}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": _token(server)})
    if not text:
        return None
    try:
        notice = json.loads(text)
    except (ValueError, RecursionError):
        if not re.fullmatch(r"[\w .:,-]+", text):
            raise NoMetadata(server, f"{server} returned no valid notice: {text[:_SHOWN]}", "no notice") from None
        return text  # treated as a notice: a needless drain costs a minute, a missed one costs the trial's progress
    if not (isinstance(notice, dict) and isinstance(notice.get("action"), str)):
        raise NoMetadata(server, f"{server} returned no valid notice: {text[:_SHOWN]}", "no notice")
    return f"{notice['action']} at {notice.get('time', 'an unknown time')}"


def _token(server: str) -> str:
    token = _ask(
        f"{server}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_SECONDS)}, method="PUT"
    )
    if not token:
        raise NoMetadata(server, f"{server} returned no session token (IMDSv2); is this an EC2 instance?")
    return token


def gcp_notice(server: str) -> str | None:
    """Return a notice if ``instance/preempted`` is TRUE, else None."""
    text = _ask(f"{server}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    if text is None:
        raise NoMetadata(server, f"{server} has no instance/preempted; is this a Google Cloud machine?")
    return "preempted" if text.strip() == "TRUE" else None


CLOUDS = {
    "aws": Cloud(aws_notice, "http://169.254.169.254", 110),
    "gcp": Cloud(gcp_notice, "http://metadata.google.internal", 22),
}


def watch(ask: Callable[[], str | None], poll_seconds: float = POLL_SECONDS) -> str:
    """Poll until there is a notice and return it.

    A server that does not respond is polled again. Each kind of fault is logged once until the server has responded.
    """
    reported: set[str] = set()
    while True:
        try:
            if notice := ask():
                return notice
            reported.clear()
        except NoMetadata as error:
            if error.fault not in reported:
                reported.add(error.fault)
                _say(f"no response, retrying every {poll_seconds:g} s: {error}")
        except Exception as error:  # noqa: BLE001  # a watcher that exits would miss the notice
            if (fault := type(error).__name__) not in reported:
                reported.add(fault)
                _say(f"unreadable response, retrying every {poll_seconds:g} s: {fault}: {error}")
        time.sleep(poll_seconds)


def _say(text: str) -> None:
    """Write a line to the log, with control characters escaped, since it may contain a server's response."""
    print(printable(" ".join(text.split())), flush=True)


def drain(address: str, node_ip: str, reason: str, deadline_seconds: int) -> None:
    """Drain Ray's node on this machine.

    Raises:
        Exception: If Ray refuses or does not answer.
    """
    command = ["ray", "drain-node", "--address", address, "--node-id", node_of(address, node_ip)]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", f"spot notice: {reason}"]
    subprocess.run(
        [*command, "--deadline-remaining-seconds", str(deadline_seconds)], check=True, timeout=_DRAIN_SECONDS
    )


def node_of(address: str, node_ip: str) -> str:
    """Return Ray's id of the live node on a machine.

    Raises:
        LookupError: If there is none.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

    for node_id, node in GcsClient(address=address).get_all_node_info(timeout=_ANSWER_SECONDS).items():
        if node.node_manager_address == node_ip and node.state == node.ALIVE:
            return str(node_id.hex())
    raise LookupError(f"the cluster at {address} has no live node at {node_ip}")


def main(arguments: list[str] | None = None) -> None:
    """Wait for the notice, drain the node and sleep: a watcher that exits would be restarted and drain again."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.nodes.spot_watcher", description=__doc__)
    parser.add_argument("--cloud", choices=CLOUDS, required=True)
    parser.add_argument("--address", required=True, help="address of Ray's head node: HOST:6379")
    parser.add_argument("--node-ip", required=True, help="IP address of this machine in the Ray cluster")
    parser.add_argument("--server", help="URL of the metadata server; by default the cloud's")
    parser.add_argument("--poll-seconds", type=float, default=POLL_SECONDS)
    given = parser.parse_args(arguments)
    cloud = CLOUDS[given.cloud]
    server = given.server or cloud.server
    notice = watch(lambda: cloud.notice(server), given.poll_seconds)
    heard = time.monotonic()
    _say(f"notice: {notice}")
    try:
        announce_leaving()
    except Exception as error:  # noqa: BLE001  # the drain matters more
        _say(f"supervisors may restart Ray here: {type(error).__name__}: {error}")
    if not _drain_until(heard + cloud.deadline_seconds, given.address, given.node_ip, notice):
        sys.exit(1)
    time.sleep(_AFTERWARDS_SECONDS)


def _drain_until(deadline: float, address: str, node_ip: str, notice: str) -> bool:
    """Drain the node, again after any failure, until the machine is gone. Return whether that succeeded."""
    while (left := int(deadline - time.monotonic())) > 0:
        try:
            drain(address, node_ip, notice, left)
        except Exception as error:  # noqa: BLE001  # whatever it is, such as an RpcError of Ray, it may pass
            _say(f"not drained, {left} s left: {type(error).__name__}: {error}")
            time.sleep(_PAUSE_SECONDS)
        else:
            print(f"drained with {left} s left", flush=True)
            return True
    return False


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """Return the text at a URL, or None if it does not exist (404). Proxies are not used.

    Raises:
        NoMetadata: If there is no response, or it is an error, too long or too slow.
    """
    try:
        request = urllib.request.Request(url, headers=headers, method=method)
        with web.opener(proxies=False, redirections=False).open(request, timeout=_REQUEST_SECONDS) as answer:
            data, deadline = b"", time.monotonic() + _REQUEST_SECONDS
            while chunk := web.read(answer, _MOST_BYTES, max(deadline - time.monotonic(), 0.01)):
                data += chunk
                if len(data) > _MOST_BYTES:
                    raise NoMetadata(url, f"{url} returned more than {_MOST_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no complete response within {_REQUEST_SECONDS:g} s")
            if getattr(answer, "length", 0):
                raise http.client.IncompleteRead(data, answer.length)
            return data.decode(errors="backslashreplace")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        raise NoMetadata(url, f"{url} returned {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error or type(error).__name__
        raise NoMetadata(url, f"{url} does not respond: {reason}", f"{url}: {type(error).__name__}") from error


if __name__ == "__main__":
    with dependable():  # failures to write the log must not cause a missed notice
        main()
