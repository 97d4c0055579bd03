"""Submission of a launch: the cluster's head node runs the driver as a Ray job, and this process prints its output.

Ending this process does not affect the launch: the driver runs on the head node and writes to the results root.
"""

import asyncio
import logging
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jobs.errors import Code, InvalidRequest
from jobs.provenance import code_version
from orchestrator.ray_tune.reachable import no_dashboard, of_cluster, require_dashboard

SUBMITTED_VARIABLE = "DELTASWEEP_SUBMITTED_TO"
"""Names the dashboard to which a launch was submitted, in the environment of its driver."""
STUDY_FILE = "study.yaml"
"""Name of the study file in the job's working directory."""
_STOP_SECONDS = 90
"""Time from ``ray job stop`` until the driver is killed, by default 3 s in Ray. Longer than running trials may take to
exit (``RetryPolicy.stop_grace_seconds``).
"""


class ListeningEnd(Enum):
    """How listening to a job ended."""

    FINISHED = "finished"
    DETACHED = "detached"
    LOST = "lost"


class Heard(NamedTuple):
    """What is known about a job when listening ends."""

    ending: ListeningEnd
    exit_code: int | None = None
    """Exit code of the driver, if it finished."""
    message: str = ""
    """Ray's message, if there is no exit code."""


class Submission(NamedTuple):
    """A job that a cluster has accepted."""

    address: str
    job: str

    def logs_command(self) -> str:
        return f"ray job logs --follow --address {self.address} {self.job}"

    def stop_command(self) -> str:
        return f"ray job stop --address {self.address} {self.job}"


def require_submittable(address: str | None, results: str) -> str:
    """Check the arguments of a submission before contacting the cluster. Return the address.

    Raises:
        InvalidRequest: If either argument is invalid.
    """
    if address is None or not address.startswith(("http://", "https://")):
        raise InvalidRequest(
            Code.MISSING_KEY if address is None else Code.WRONG_VALUE,
            f"expected the URL of a cluster's dashboard with --submit (--address http://127.0.0.1:8265 after "
            f"`ray dashboard cluster.yaml`); got {address}",
            file=address or "",
            key="--address",
        )
    if "://" not in results and not Path(results).is_absolute():
        raise InvalidRequest(
            Code.WRONG_PLACE,
            "expected a results root that the cluster's machines can access (with --submit): s3://, gs:// or the "
            f"absolute path of a shared directory; got {results}",
            file=results,
            key="--results",
        )
    return address


def submit(
    address: str,
    verb: str,
    options: list[str],
    study_file: bytes | None = None,
    builders: Mapping[str, str] = MappingProxyType({}),
) -> Submission:
    """Run ``deltasweep VERB OPTIONS`` on a cluster's head node.

    Args:
        study_file: Contents of a study file, uploaded and passed as the command's first argument.
        builders: Texts of builder files by name, uploaded as well.

    Raises:
        InvalidRequest: If the cluster does not respond, rejects the token, or runs another version of Ray.
    """
    client = _client(address)
    with tempfile.TemporaryDirectory(prefix="deltasweep-submit-") as folder, _explained(address):
        runtime_env: dict[str, object] = {
            "env_vars": {
                "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS),
                "RAY_USAGE_STATS_ENABLED": "0",
                SUBMITTED_VARIABLE: address,
            }
        }
        arguments = [verb, *options]
        uploaded = {name: text.encode() for name, text in builders.items()}
        if study_file is not None:
            uploaded[STUDY_FILE] = study_file
            arguments.insert(1, STUDY_FILE)
        for name, data in uploaded.items():
            Path(folder, name).write_bytes(data)
        if uploaded:
            runtime_env["working_dir"] = folder
        job = client.submit_job(
            entrypoint=shlex.join(["deltasweep", *arguments]),
            runtime_env=runtime_env,
            metadata={"deltasweep": code_version()},
        )
    return Submission(address, job)


def listen(submission: Submission, write: Callable[[str], object]) -> Heard:
    """Pass on the driver's output until the driver ends, the user interrupts, or the connection is lost."""
    client = _client(submission.address)

    async def follow() -> None:
        async for text in client.tail_job_logs(submission.job):
            write(text)

    try:
        asyncio.run(follow())
    except KeyboardInterrupt:
        return Heard(ListeningEnd.DETACHED)
    except (OSError, RuntimeError) as error:
        return Heard(ListeningEnd.LOST, message=str(error))
    try:
        details = client.get_job_info(submission.job)
    except (OSError, RuntimeError) as error:
        return Heard(ListeningEnd.LOST, message=str(error))
    if not details.status.is_terminal():
        return Heard(ListeningEnd.LOST, message="the log ended before the job did")
    return Heard(ListeningEnd.FINISHED, details.driver_exit_code, details.message or "")


def _client(address: str) -> Any:
    import ray
    from ray.job_submission import JobSubmissionClient

    for chatter in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    require_dashboard(address)  # Ray's client would wait forever
    with _explained(address):
        client = JobSubmissionClient(address)
        theirs = client._server_ray_version
    if theirs != ray.__version__:
        raise InvalidRequest(
            Code.VERSIONS_DIFFER,
            f"the cluster at {address} runs Ray {theirs}; this machine has {ray.__version__}. Fix: install the same "
            "versions of DeltaSweep and Ray on both",
            file=address,
            key="--address",
        )
    return client


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Convert Ray's errors about an unreachable cluster or refused access to DeltaSweep errors."""
    import requests

    try:
        with of_cluster(address):
            yield
    except (OSError, RuntimeError, requests.RequestException) as error:
        raise no_dashboard(address, error) from error
