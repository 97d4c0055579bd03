"""``python -m orchestrator.spot_watcher`` waits for the notice that a spot machine is taken back, and drains its node.

AWS gives two minutes, in the instance's metadata (IMDSv2): ``/latest/meta-data/spot/instance-action`` answers 404 until
then. Google Cloud sets ``/computeMetadata/v1/instance/preempted`` to TRUE and gives 30 seconds. Ray hears of it by
``ray drain-node``: nothing new is placed here, and running trials save and leave (``orchestrator.stopping``).
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

from jobs import web
from jobs.errors import Code, DeltaSweepError
from jobs.printable import printable
from orchestrator.streams import dependable
from orchestrator.supervisor import announce_leaving

POLL_SECONDS = 5.0
"""AWS asks for no more often; of 120 s it costs 5."""
_REQUEST_SECONDS = 2.0
_MOST_BYTES = 65_536
"""Of an answer; a notice has a hundred."""
_SHOWN = 200
"""Characters of an answer that is none."""
_TOKEN_TTL_SECONDS = 21_600
_DRAIN_ATTEMPTS = 5
_AFTERWARDS_SECONDS = 600.0
"""The machine is gone before that."""


class NoMetadata(DeltaSweepError):
    """The metadata server does not answer, or not as a spot machine's."""

    def __init__(self, url: str, message: str, fault: str | None = None) -> None:
        """
        Args:
            fault: the kind of fault, where the message differs each time.
        """
        super().__init__(Code.INTERNAL, message, file=url)
        self.fault = fault or message


class Cloud(NamedTuple):
    """Where a cloud says that it takes a machine back, and how long Ray may count on it then."""

    notice: Callable[[str], str | None]
    """From the metadata server's address to what the notice says; None when there is none."""
    server: str
    deadline_seconds: int
    """From the notice to the end, less what hearing of it and telling Ray takes."""


def aws_notice(server: str) -> str | None:
    """What ``spot/instance-action`` says: ``{"action": "terminate", "time": ...}``. None: nothing yet.

    Each question asks for a session token first, as IMDSv2 wants it: one that has run out would look like silence.
    """
    text = _ask(f"{server}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": _token(server)})
    if not text:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        if not re.fullmatch(r"[\w .:,-]+", text):
            raise NoMetadata(server, f"{server} answers with no notice: {text[:_SHOWN]}", "no notice") from None
        return text  # a notice all the same: leaving for nothing costs a minute, staying costs the trial's progress
    if not (isinstance(said, dict) and isinstance(said.get("action"), str)):
        raise NoMetadata(server, f"{server} answers with no notice: {text[:_SHOWN]}", "no notice")
    return f"{said['action']} at {said.get('time', 'an unknown time')}"


def _token(server: str) -> str:
    token = _ask(
        f"{server}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_SECONDS)}, method="PUT"
    )
    if not token:
        raise NoMetadata(server, f"{server} gives no session token (IMDSv2); is this an EC2 instance?")
    return token


def gcp_notice(server: str) -> str | None:
    """Whether ``instance/preempted`` is TRUE."""
    text = _ask(f"{server}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    if text is None:
        raise NoMetadata(server, f"{server} has no instance/preempted; is this a Google Cloud machine?")
    return "preempted" if text.strip() == "TRUE" else None


CLOUDS = {
    "aws": Cloud(aws_notice, "http://169.254.169.254", 110),
    "gcp": Cloud(gcp_notice, "http://metadata.google.internal", 22),
}


def watch(ask: Callable[[], str | None], poll_seconds: float = POLL_SECONDS) -> str:
    """Ask until there is a notice; returns what it says. A server that does not answer is asked again; each kind of
    fault is said once, until the server has answered.
    """
    said: set[str] = set()
    while True:
        try:
            if notice := ask():
                return notice
            said.clear()
        except NoMetadata as error:
            if error.fault not in said:
                said.add(error.fault)
                _say(f"no answer, asking again every {poll_seconds:g} s: {error}")
        except Exception as error:  # noqa: BLE001  # a watcher that ended would not hear the notice
            if (fault := type(error).__name__) not in said:
                said.add(fault)
                _say(f"no answer that can be read, asking again every {poll_seconds:g} s: {fault}: {error}")
        time.sleep(poll_seconds)


def _say(text: str) -> None:
    """A line into the log; what servers say is shown, and not obeyed by whoever reads it."""
    print(printable(" ".join(text.split())), flush=True)


def drain(address: str, node_ip: str, reason: str, deadline_seconds: int) -> None:
    """Tell Ray that its node on this machine goes away.

    Raises:
        subprocess.CalledProcessError: when Ray did not take it.
    """
    command = ["ray", "drain-node", "--address", address, "--node-id", node_of(address, node_ip)]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", f"spot notice: {reason}"]
    subprocess.run([*command, "--deadline-remaining-seconds", str(deadline_seconds)], check=True, timeout=60)


def node_of(address: str, node_ip: str) -> str:
    """Ray's id of the living node on a machine.

    Raises:
        LookupError: when there is none.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

    for node_id, node in GcsClient(address=address).get_all_node_info().items():
        if node.node_manager_address == node_ip and node.state == node.ALIVE:
            return str(node_id.hex())
    raise LookupError(f"the cluster at {address} has no living node at {node_ip}")


def main(arguments: list[str] | None = None) -> None:
    """Wait for the notice, drain, and stay: a watcher that ended would be started again and drain again."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.spot_watcher", description=__doc__)
    parser.add_argument("--cloud", choices=CLOUDS, required=True)
    parser.add_argument("--address", required=True, help="of Ray's head: HOST:6379")
    parser.add_argument("--node-ip", required=True, help="of this machine, as Ray knows it")
    parser.add_argument("--server", help="of the metadata; by default the cloud's")
    parser.add_argument("--poll-seconds", type=float, default=POLL_SECONDS)
    given = parser.parse_args(arguments)
    cloud = CLOUDS[given.cloud]
    server = given.server or cloud.server
    notice = watch(lambda: cloud.notice(server), given.poll_seconds)
    heard = time.monotonic()
    _say(f"notice: {notice}")
    announce_leaving()
    for attempt in range(1, _DRAIN_ATTEMPTS + 1):
        left = cloud.deadline_seconds - int(time.monotonic() - heard)
        try:
            drain(given.address, given.node_ip, notice, max(left, 1))
        except (subprocess.SubprocessError, LookupError, RuntimeError, OSError) as error:
            _say(f"attempt {attempt} of {_DRAIN_ATTEMPTS} to drain failed: {error}")
            time.sleep(2)
            continue
        print(f"drained with {left} s left", flush=True)
        time.sleep(_AFTERWARDS_SECONDS)
        return
    sys.exit(1)


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """The text at a URL, None where there is nothing (404). The metadata's address takes no proxy.

    Raises:
        NoMetadata: when there is no answer, another, or one that is too long or takes too long.
    """
    try:
        request = urllib.request.Request(url, headers=headers, method=method)
        with web.opener(proxies=False, redirections=False).open(request, timeout=_REQUEST_SECONDS) as answer:
            data, deadline = b"", time.monotonic() + _REQUEST_SECONDS
            while chunk := web.read(answer, _MOST_BYTES, max(deadline - time.monotonic(), 0.01)):
                data += chunk
                if len(data) > _MOST_BYTES:
                    raise NoMetadata(url, f"{url} answers with more than {_MOST_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no whole answer within {_REQUEST_SECONDS:g} s")
            if getattr(answer, "length", 0):
                raise http.client.IncompleteRead(data, answer.length)
            return data.decode(errors="backslashreplace")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        raise NoMetadata(url, f"{url} answers {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = error or type(error).__name__
        raise NoMetadata(url, f"{url} does not answer: {said}", f"{url}: {type(error).__name__}") from error


if __name__ == "__main__":
    with dependable():  # a log that cannot be written must not cost a notice
        main()
